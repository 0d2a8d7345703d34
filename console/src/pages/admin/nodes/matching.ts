import type { AdminNode } from "./api.ts";

/** The nodes that have a text in their name, id, provider, models or GPUs; all for no text. */
export function matching(nodes: readonly AdminNode[], text: string): readonly AdminNode[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return nodes;
  const words = (node: AdminNode) => [
    node.id,
    node.name,
    node.provider ?? "",
    node.kind,
    ...node.models.map((model) => model.name),
    ...node.gpus.map((gpu) => gpu.name),
  ];
  return nodes.filter((node) => words(node).some((word) => word.toLowerCase().includes(wanted)));
}
