import { describe, expect, it } from "vitest";
import { safeNext } from "./next.ts";

const origin = "https://gpu.example.org";

describe("where signing in leads", () => {
  it.each(["/dashboard/jobs", "/dashboard?model=llama3.2%3A1b", "/admin/users#top", "/"])("back to %s", (path) => {
    expect(safeNext(path, origin)).toBe(path);
  });

  it.each([
    "https://elsewhere.example",
    "//elsewhere.example/x",
    "/\\elsewhere.example",
    "\\\\elsewhere.example",
    "/\t/elsewhere.example",
    "/\n/elsewhere.example",
    "javascript:alert(1)",
    "dashboard",
    "/..//elsewhere.example",
    "/login?next=/dashboard",
    "/register",
    "",
    undefined,
    7,
  ])("nowhere else: %j", (wanted) => {
    expect(safeNext(wanted, origin)).toBe("/dashboard");
  });
});
