import { describe, expect, it } from "vitest";
import { BLANK } from "./desk.ts";
import { checked, errorsOf } from "./request.ts";

const draft = (change: Partial<typeof BLANK>) => ({ ...BLANK, model: "m", prompt: "hi", ...change });

describe("a request", () => {
  it("leaves out what was left blank", () => {
    expect(checked(draft({}))).toEqual({ asked: { prompt: "hi", model: "m" }, errors: {} });
  });

  it("says what was typed", () => {
    const typed = { system: "Be brief.", provider: " bob ", maxTokens: "50", temperature: "0,5", topP: "1", seed: "-7", stop: "a\nb\n" };
    expect(checked(draft(typed))).toEqual({
      errors: {},
      asked: {
        prompt: "hi",
        system: "Be brief.",
        model: "m",
        provider: "bob",
        max_tokens: 50,
        options: { temperature: 0.5, top_p: 1, seed: -7, stop: ["a", "b"] },
      },
    });
  });

  it.each([
    [{ prompt: " \n" }, "prompt"],
    [{ maxTokens: "0" }, "maxTokens"],
    [{ maxTokens: "1.5" }, "maxTokens"],
    [{ temperature: "2.1" }, "temperature"],
    [{ temperature: "-1" }, "temperature"],
    [{ topP: "warm" }, "topP"],
    [{ seed: "1e9" }, "seed"],
    [{ stop: "x\n".repeat(17) }, "stop"],
    [{ prompt: "ü".repeat(600_000) }, "prompt"],
  ])("is not sent with %j", (change, field) => {
    expect(Object.keys(checked(draft(change)).errors)).toEqual([field]);
  });

  it("shows the platform's words at the fields", () => {
    const fields = { provider: ['Provider "x" is not known.'], "options.top_p": ["wrong"], webhook: ["unknown here"] };
    expect(errorsOf(fields)).toEqual({ provider: 'Provider "x" is not known.', topP: "wrong" });
  });
});
