import { readFileSync } from "node:fs";
import openapi, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { expect, it } from "vitest";
import { variables } from "./theme/variables.ts";

/** What `npm run generate` makes is committed; here it is made once more. */

it.each([
  ["ledger", "accounts"],
  ["serve", "jobs"],
])(
  "the types of %s are those of its API",
  async (name, api) => {
    const made = await openapi(new URL(`../../docs/reference/${api}.openapi.json`, import.meta.url));
    expect(readFileSync(new URL(`client/${name}.d.ts`, import.meta.url), "utf8")).toBe(`${COMMENT_HEADER}${astToString(made)}`);
  },
  30_000,
);

it("Mantine's variables are those of the theme", () => {
  expect(readFileSync(new URL("theme/mantine.css", import.meta.url), "utf8")).toBe(variables());
});
