import type { LogLine, PageOf } from "../queries.ts";

/** Read the audit log from its newest line back, `most` lines of it at most. */
export async function everything(
  ask: (before?: string) => Promise<PageOf<LogLine>>,
  most: number,
): Promise<{ lines: LogLine[]; isWhole: boolean }> {
  const lines: LogLine[] = [];
  let next: string | null | undefined;
  do {
    const page = await ask(next ?? undefined);
    lines.push(...page.results);
    next = page.next;
  } while (next !== null && lines.length < most);
  return { lines: lines.slice(0, most), isWhole: next === null };
}
