import { expect, it } from "vitest";
import { bytes } from "./bytes.ts";

it.each([
  [0, "0 B"],
  [999, "999 B"],
  [98_362_432, "98.4 MB"],
  [24_000_000_000, "24 GB"],
  [2_000_000_000_000_000, "2,000 TB"],
])("%o is %o", (size, said) => {
  expect(bytes(size)).toBe(said);
});
