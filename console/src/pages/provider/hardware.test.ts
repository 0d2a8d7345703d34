import { expect, it } from "vitest";
import { busiest, bytes, gpuNames, summary } from "./hardware.ts";
import type { Gpu, LiveNode } from "./queries.ts";

const gpu = (name: string, utilization_percent: number | null = null) => ({ name, utilization_percent }) as Gpu;

it("writes bytes for people", () => {
  expect([0, 512, 1536, 98_362_432, 25_757_220_864, 5 * 2 ** 41].map(bytes)).toEqual([
    "0 B",
    "512 B",
    "1.5 KiB",
    "94 MiB",
    "24 GiB",
    "10 TiB",
  ]);
});

it("counts equal cards, without the words that all share", () => {
  expect(gpuNames([gpu("NVIDIA GeForce RTX 4090"), gpu("NVIDIA GeForce RTX 4090"), gpu("NVIDIA H100 80GB HBM3")])).toBe(
    "2 × RTX 4090, H100 80GB HBM3",
  );
  expect(gpuNames([])).toBeUndefined();
});

it("sums a machine up", () => {
  const live = { gpus: [gpu("NVIDIA GeForce RTX 4090")], models: [{}, {}, {}] } as unknown as LiveNode;
  expect(summary("attic", live)).toBe("attic, RTX 4090, 3 models");
  expect(summary("attic", { ...live, gpus: [], models: live.models.slice(0, 1) })).toBe("attic, processor, 1 model");
});

it("tells the busiest card, where any driver tells", () => {
  expect(busiest([gpu("a", 12), gpu("b", 63), gpu("c")])).toBe(63);
  expect(busiest([gpu("a")])).toBeUndefined();
});
