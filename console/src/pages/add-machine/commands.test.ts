import { expect, it } from "vitest";
import { isOnlyHere, recipe, SYSTEMS, usualSystem } from "./commands.ts";

const SITE = "https://gpu.example.org";
const CODE = "gfe_enroll_abc";

it("names this installation and this code in every way to begin", () => {
  for (const system of SYSTEMS) {
    const lines = recipe(system, SITE, CODE).steps.map((step) => step.command);
    expect(lines.some((line) => line.includes(SITE) && line.includes(`--code ${CODE}`))).toBe(true);
    for (const line of lines.filter((one) => one.includes("--code"))) expect(line).toContain(SITE);
  }
  expect(recipe("linux", SITE, CODE).steps.map((step) => step.command)).toEqual([
    `curl -fsS ${SITE}/install.sh | sh -s -- --code ${CODE}`,
    `curl -fsS ${SITE}/install.sh | GFE_EXTRAS=local sh -s -- --code ${CODE}`,
    `gfe agent --url ${SITE} --code ${CODE}`,
  ]);
});

it("shows first what the reader has", () => {
  expect(usualSystem("Mozilla/5.0 (Windows NT 10.0; Win64; x64)")).toBe("windows");
  expect(usualSystem("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)")).toBe("macos");
  expect(usualSystem("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)")).toBe("linux");
  expect(usualSystem("Mozilla/5.0 (X11; Linux x86_64)")).toBe("linux");
});

it("knows addresses that lead nowhere from elsewhere", () => {
  expect(["localhost", "127.0.0.1", "127.1.2.3", "[::1]"].every(isOnlyHere)).toBe(true);
  expect(["gpu.example.org", "192.168.1.5", "127.example.org"].some(isOnlyHere)).toBe(false);
});
