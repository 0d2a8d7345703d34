import { describe, expect, it } from "vitest";
import { asProblem, Problem, problemOf, unreachable } from "./problem.ts";

function answer(status: number, headers: Record<string, string> = {}): Response {
  return new Response("", { status, headers });
}

describe("a problem", () => {
  it("carries what the API said, and the texts of its fields", () => {
    const body = {
      title: "Invalid request",
      detail: "This field is required.",
      code: "invalid_request",
      errors: { email: ["This field is required."] },
    };
    const problem = problemOf(answer(400), body);
    expect([problem.status, problem.title, problem.message, problem.code]).toEqual([
      400,
      "Invalid request",
      body.detail,
      "invalid_request",
    ]);
    expect(problem.field("email")).toBe("This field is required.");
    expect(problem.field("username")).toBeUndefined();
    expect(problem.isPassing).toBe(false);
  });

  it("knows when to come back", () => {
    expect(problemOf(answer(429, { "Retry-After": "7" }), {}).retryAfterS).toBe(7);
    expect(problemOf(answer(503), { retry_after_s: 3 }).retryAfterS).toBe(3);
    expect(problemOf(answer(503, { "Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT" }), {}).retryAfterS).toBeUndefined();
  });

  it("reads OpenAI's shape too", () => {
    const problem = problemOf(answer(404), { error: { message: "The model `x` does not exist.", code: "model_not_found" } });
    expect([problem.message, problem.code]).toEqual(["The model `x` does not exist.", "model_not_found"]);
  });

  it("has a sentence even when a proxy answered with a page", () => {
    const problem = problemOf(answer(502), "<html>Bad Gateway</html>");
    expect(problem.message).toBe("Something went wrong on our side");
    expect(problem.isPassing).toBe(true);
  });

  it("is also what a silent network and a mistake of the page become", () => {
    expect(unreachable(new TypeError("Failed to fetch"))).toMatchObject({ status: 0, code: "unreachable" });
    expect(asProblem(new RangeError("x"))).toMatchObject({ code: "defect" });
    const problem = new Problem(402, { detail: "Insufficient funds" });
    expect(asProblem(problem)).toBe(problem);
  });
});
