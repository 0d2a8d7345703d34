import { expect, it } from "vitest";
import type { AdminNode } from "../nodes/api.ts";
import type { CatalogModel } from "../queries.ts";
import { foundBeside } from "./found.ts";

const model = (name: string, digest: string) => ({ name, digest, size_bytes: 1000, context_tokens: 8192 });
const node = (...models: ReturnType<typeof model>[]) => ({ models }) as AdminNode;
const CATALOG = [{ name: "smollm2:135m", digest: "aa" }] as CatalogModel[];

it("finds what the catalog does not know, and what it knows with other weights", () => {
  const nodes = [
    node(model("smollm2:135m", "aa"), model("qwen3:8b", "bb")),
    node(model("qwen3:8b", "bb"), model("smollm2:135m", "cc"), model("unmeasured:1b", "")),
  ];
  expect(foundBeside(CATALOG, nodes).map(({ name, digest, nodes: many, isOther }) => [name, digest, many, isOther])).toEqual([
    ["qwen3:8b", "bb", 2, false],
    ["smollm2:135m", "cc", 1, true],
  ]);
});

it("finds nothing where all is known", () => {
  expect(foundBeside(CATALOG, [node(model("smollm2:135m", "aa"))])).toEqual([]);
});
