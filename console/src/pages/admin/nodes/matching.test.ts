import { expect, it } from "vitest";
import type { AdminNode } from "./api.ts";
import { matching } from "./matching.ts";

const node = (name: string, provider: string | null, model: string, gpu: string) =>
  ({ id: `node_${name}`, name, provider, kind: "edge", models: [{ name: model }], gpus: [{ name: gpu }] }) as AdminNode;
const NODES = [node("attic", "petra", "qwen3:8b", "RTX 4090"), node("cellar", null, "smollm2:135m", "H100")];
const names = (text: string) => matching(NODES, text).map((one) => one.name);

it.each([
  ["", ["attic", "cellar"]],
  [" ", ["attic", "cellar"]],
  ["ATT", ["attic"]],
  ["petra", ["attic"]],
  ["smollm2", ["cellar"]],
  ["rtx 4090", ["attic"]],
  ["node_cellar", ["cellar"]],
  ["nothing", []],
])("%o finds %o", (text, found) => {
  expect(names(text)).toEqual(found);
});
