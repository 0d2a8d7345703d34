import { describe, expect, it } from "vitest";
import { Once } from "./once.ts";
import { Problem } from "./problem.ts";

/** Sends once, notes its key, and ends as told. */
async function keyOf(once: Once, asked: unknown, ends: "well" | Problem = "well"): Promise<string> {
  let key = "";
  const sent = once.send(asked, async (header) => {
    key = header["Idempotency-Key"];
    if (ends !== "well") throw ends;
  });
  await sent.catch((thrown: unknown) => expect(thrown).toBe(ends));
  return key;
}

const SILENT = new Problem(0, {});
const BUSY = new Problem(503, {});
const REFUSED = new Problem(402, {});

describe("what must be done once", () => {
  it("has a key of its own each time it was answered", async () => {
    const once = new Once();
    const keys = [await keyOf(once, { amount: "1" }), await keyOf(once, { amount: "1" }, REFUSED), await keyOf(once, { amount: "1" })];
    expect(new Set(keys).size).toBe(3);
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
  });

  it("keeps its key while nobody knows what became of it", async () => {
    const once = new Once();
    const keys = [await keyOf(once, { amount: "1" }, SILENT), await keyOf(once, { amount: "1" }, BUSY), await keyOf(once, { amount: "1" })];
    expect(new Set(keys).size).toBe(1);
  });

  it("gets another when something else is asked", async () => {
    const once = new Once();
    expect(await keyOf(once, { amount: "1" }, SILENT)).not.toBe(await keyOf(once, { amount: "2" }));
  });
});
