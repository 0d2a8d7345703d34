import { expect, it } from "vitest";
import { chosenText, waitingText } from "./why.ts";

const decision = { attempt: 2, at: "2026-01-01T00:00:00+00:00", node: "node_1", name: "attic", refused: {}, others: 0 };
const why = { id: "job_1", status: "PENDING" as const, attempts: 1, waiting: 3, decisions: [], error: null, wait: null };

it("says where an attempt went", () => {
  expect(chosenText(decision)).toBe("Attempt 2 went to attic.");
  expect(chosenText({ ...decision, node: null, name: null, others: 1 })).toBe(
    "Attempt 2: no node could take it then. 1 more node was not needed.",
  );
});

it("says what stands before a job that waits", () => {
  expect(waitingText({ ...why, wait: { ahead: 1, estimated_s: 12 } })).toBe("1 job goes before it; about 12\u00a0s to go.");
  expect(waitingText(why)).toBe("3 jobs wait for its model.");
  expect(waitingText({ ...why, status: "RUNNING" })).toBeUndefined();
});
