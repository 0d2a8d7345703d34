import type { AdminNode } from "../nodes/api.ts";
import type { CatalogModel } from "../queries.ts";

/** A model that nodes have and that the catalog does not know, or knows with other weights. */
export interface Found {
  name: string;
  digest: string;
  size_bytes: number;
  context_tokens: number;
  nodes: number;
  /** The catalog has the name with another digest. */
  isOther: boolean;
}

/** What nodes have beside the catalog: each name with each digest once, those of most nodes first. */
export function foundBeside(catalog: readonly CatalogModel[], nodes: readonly AdminNode[]): Found[] {
  const known = new Map(catalog.map((model) => [model.name, model.digest]));
  const found = new Map<string, Found>();
  for (const { name, digest, size_bytes, context_tokens } of nodes.flatMap((node) => node.models)) {
    if (!digest || known.get(name) === digest) continue;
    const key = `${name} ${digest}`;
    const one = found.get(key) ?? { name, digest, size_bytes, context_tokens, nodes: 0, isOther: known.has(name) };
    found.set(key, { ...one, nodes: one.nodes + 1 });
  }
  return [...found.values()].sort((a, b) => b.nodes - a.nodes || a.name.localeCompare(b.name));
}
