import { expect, it } from "vitest";
import { standingOfQuote } from "./standing-of-quote.ts";

it.each([
  [undefined, { ahead: "…", wait: "…" }],
  [null, { ahead: "–", wait: "no node takes it" }],
  [
    { ahead: 0, estimated_s: 0.4 },
    { ahead: "0", wait: "none" },
  ],
  [
    { ahead: 12, estimated_s: 33.6 },
    { ahead: "12", wait: "about 34 s" },
  ],
])("%o is said in words", (wait, said) => {
  expect(standingOfQuote(wait)).toEqual(said);
});
