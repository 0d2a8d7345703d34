import { expect, it } from "vitest";
import type { Model } from "./market.ts";
import { inOrder } from "./order.ts";

it("puts those first that can answer now, then those with more nodes", () => {
  const model = (name: string, nodes: number) => ({ name, nodes, online: nodes > 0 }) as Model;
  const all = [model("c", 0), model("b", 1), model("a", 1), model("d", 3)];
  expect(inOrder(all).map(({ name }) => name)).toEqual(["d", "a", "b", "c"]);
});
