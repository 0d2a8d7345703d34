import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CLAIMS } from "./claims.ts";

/** All that the tests of the platform say. */
function tests(folder: string): string {
  const said = readdirSync(folder, { withFileTypes: true }).map((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "node_modules" ? "" : tests(path);
    return entry.name.endsWith(".py") ? readFileSync(path, "utf8") : "";
  });
  return said.join("\n");
}

describe("what the landing page claims", () => {
  const said = tests(join(import.meta.dirname, "../../../../tests"));

  it.each(CLAIMS)("$title", ({ restsOn }) => {
    expect(restsOn.length).toBeGreaterThan(0);
    for (const row of restsOn) expect(said).toMatch(new RegExp(`\\b${row}\\b`));
  });

  it("says nothing that is not so", () => {
    const all = CLAIMS.map((claim) => `${claim.title} ${claim.text}`).join(" ");
    expect(all).not.toMatch(/end-to-end|encrypted|sandbox|anonymous|zero-knowledge|peer-to-peer/i);
  });
});
