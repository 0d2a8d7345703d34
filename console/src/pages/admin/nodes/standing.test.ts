import { expect, it } from "vitest";
import type { AdminNode } from "./api.ts";
import { countByStanding, type Standing, standingOf, stateShownAs } from "./standing.ts";

const WELL = { kind: "edge", state: "active", online: true, healthy: true, draining: false } as AdminNode;

it.each<[Partial<AdminNode>, Standing]>([
  [{}, "takes jobs"],
  [{ state: null }, "takes jobs"],
  [{ draining: true }, "draining"],
  [{ healthy: false, draining: true }, "unwell"],
  [{ online: false, healthy: false }, "away"],
  [{ state: "paused" }, "paused"],
  [{ state: "quarantined", healthy: false }, "quarantined"],
  [{ state: "banned", online: false }, "banned"],
  [{ state: "revoked" }, "gone"],
  [{ state: "deregistered" }, "gone"],
])("a node that is %o %s", (change, standing) => {
  expect(standingOf({ ...WELL, ...change })).toBe(standing);
});

it("counts by kind, and leaves out what there is none of", () => {
  const trusted = { ...WELL, kind: "trusted" } as AdminNode;
  expect(countByStanding([WELL, trusted, WELL, { ...WELL, state: "banned" }])).toEqual([
    { standing: "takes jobs", trusted: 1, edge: 2 },
    { standing: "banned", trusted: 0, edge: 1 },
  ]);
  expect(countByStanding([])).toEqual([]);
});

it("says a state of the ledger's in a word", () => {
  expect([stateShownAs("active"), stateShownAs("banned"), stateShownAs("revoked")].map(([, word]) => word)).toEqual([
    "Active",
    "Banned",
    "Deregistered",
  ]);
});
