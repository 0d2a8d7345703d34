import type { LogLine } from "../queries.ts";

const COLUMNS = ["seq", "at", "actor", "action", "target", "address", "request_id", "detail"] as const;
const FORMULA = /^[=+\-@\t\r]/; // a spreadsheet would reckon instead of show

/** Write lines of the audit log as CSV (RFC 4180), with a line of names at the top. */
export function csvOf(lines: readonly LogLine[]): string {
  const rows = lines.map((line) => COLUMNS.map((name) => cell(name === "detail" ? JSON.stringify(line.detail) : line[name])));
  return [COLUMNS, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function cell(value: string | number | null): string {
  if (typeof value === "number") return String(value);
  const text = value ?? "";
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
