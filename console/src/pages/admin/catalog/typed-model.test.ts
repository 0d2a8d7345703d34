import { expect, it } from "vitest";
import type { Problem } from "../../../client/problem.ts";
import { modelAsked } from "./typed-model.ts";

const TEXT = { name: " qwen3:8b ", digest: "AB", source: "a hub ", license: "MIT", size_bytes: "1000", context_tokens: " 8192" };

it("tidies what was typed", () => {
  expect(modelAsked(TEXT)).toEqual({
    name: "qwen3:8b",
    digest: "ab",
    source: "a hub",
    license: "MIT",
    size_bytes: 1000,
    context_tokens: 8192,
  });
});

it("names fields that are no whole number", () => {
  try {
    modelAsked({ ...TEXT, size_bytes: "1.5 GB", context_tokens: "" });
    expect.unreachable();
  } catch (thrown) {
    expect(Object.keys((thrown as Problem).fields)).toEqual(["size_bytes", "context_tokens"]);
  }
});
