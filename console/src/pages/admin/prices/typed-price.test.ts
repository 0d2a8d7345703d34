import { expect, it } from "vitest";
import type { Problem } from "../../../client/problem.ts";
import { priceAsked } from "./typed-price.ts";

const TEXT = { job: "1", prompt_per_million: "0", completion_per_million: "2,5" };

it("writes amounts as the API does, and leaves the model out of the default price", () => {
  const amounts = { job: "1.00", prompt_per_million: "0.00", completion_per_million: "2.50" };
  expect(priceAsked(null, TEXT)).toEqual(amounts);
  expect(priceAsked(" qwen3:8b ", TEXT)).toEqual({ model: "qwen3:8b", ...amounts });
});

it("names every wrong field", () => {
  try {
    priceAsked(" ", { ...TEXT, job: "-1", completion_per_million: "" });
    expect.unreachable();
  } catch (thrown) {
    expect(Object.keys((thrown as Problem).fields).sort()).toEqual(["completion_per_million", "job", "model"]);
  }
});
