import type { Model } from "./market.ts";

/** Those that can answer now come first, then those with the most nodes. */
export function inOrder(models: readonly Model[]): Model[] {
  return [...models].sort((a, b) => Number(b.online) - Number(a.online) || b.nodes - a.nodes || a.name.localeCompare(b.name));
}
