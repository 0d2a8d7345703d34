import type { LogLine } from "../queries.ts";

/** The lines that have a text anywhere: in what was done, by whom, to whom, from where, or in the detail; all for no text. */
export function filtered(lines: readonly LogLine[], text: string): readonly LogLine[] {
  const wanted = text.trim().toLowerCase();
  return wanted === "" ? lines : lines.filter((line) => wordsOf(line).toLowerCase().includes(wanted));
}

function wordsOf({ seq, actor, action, target, address, request_id, detail }: LogLine): string {
  return [seq, actor, action, target, address ?? "", request_id ?? "", JSON.stringify(detail)].join("\n");
}
