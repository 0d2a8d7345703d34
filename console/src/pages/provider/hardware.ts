import { counted } from "../../words.ts";
import type { Gpu, LiveNode } from "./queries.ts";

/** Hardware in words. Pure. */

const KIBI = 1024;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** Bytes for people: `24 GiB`, `1.9 GiB`. */
export function bytes(count: number): string {
  let [value, unit] = [count, 0];
  while (value >= KIBI && unit < UNITS.length - 1) [value, unit] = [value / KIBI, unit + 1];
  return `${value < 10 && unit > 0 ? value.toFixed(1).replace(/\.0$/, "") : Math.round(value)} ${UNITS[unit]}`;
}

/** A node's cards, equal ones counted: `2 × RTX 4090, RTX 3060`; undefined: none is told of. */
export function gpuNames(gpus: readonly Pick<Gpu, "name">[]): string | undefined {
  const counts = new Map<string, number>();
  for (const { name } of gpus) counts.set(shortName(name), (counts.get(shortName(name)) ?? 0) + 1);
  if (counts.size === 0) return undefined;
  return [...counts].map(([name, count]) => (count > 1 ? `${count} × ${name}` : name)).join(", ");
}

/** Without the maker's words that all of them share. */
export function shortName(name: string): string {
  return name.replace(/^NVIDIA\s+/i, "").replace(/^GeForce\s+/i, "") || name;
}

export function hardware(live: Pick<LiveNode, "gpus"> | undefined): string {
  return (live && gpuNames(live.gpus)) ?? "No GPU reported";
}

/** What was connected, for the notice: `attic, RTX 4090, 3 models`. */
export function summary(name: string, live: LiveNode): string {
  return [name, gpuNames(live.gpus) ?? "processor", counted(live.models.length, "model")].join(", ");
}

/** The most that any card works, in percent; undefined: no driver tells. */
export function busiest(gpus: readonly Gpu[]): number | undefined {
  const told = gpus.map((gpu) => gpu.utilization_percent).filter((percent) => percent !== null);
  return told.length ? Math.max(...told) : undefined;
}
