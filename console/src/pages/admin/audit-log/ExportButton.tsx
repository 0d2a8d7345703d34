import { useMutation } from "@tanstack/react-query";
import { Button } from "../../../components/Button.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Icon } from "../../../components/Icon.tsx";
import { Notice } from "../../../components/Notice.tsx";
import { askLog } from "../queries.ts";
import { csvOf } from "./csv.ts";
import { everything } from "./everything.ts";
import { filtered } from "./filter.ts";
import { save } from "./save.ts";

/** Lines that one file has at most: a hundred pages of the API. */
export const MOST_LINES = 10_000;

interface Exporting {
  mutate: () => void;
  isPending: boolean;
  data: { lines: number; isWhole: boolean } | undefined;
  error: unknown;
}

/** Writes the log, or the lines of it that fit a text, into a file. */
export function useExport(text: string): Exporting {
  const { mutate, isPending, data, error } = useMutation({
    mutationFn: async () => {
      const read = await everything(askLog, MOST_LINES);
      const lines = filtered(read.lines, text);
      save("audit-log.csv", csvOf(lines), "text/csv;charset=utf-8");
      return { lines: lines.length, isWhole: read.isWhole };
    },
  });
  return { mutate: () => mutate(), isPending, data, error };
}

export function ExportButton({ exporting }: { exporting: Exporting }) {
  return (
    <Button icon={<Icon name="download" size={18} />} busy={exporting.isPending} onClick={exporting.mutate}>
      Export as CSV
    </Button>
  );
}

export function ExportNews({ exporting }: { exporting: Exporting }) {
  if (exporting.error) return <Failure problem={exporting.error} what="The log was not exported" onRetry={exporting.mutate} />;
  if (!exporting.data) return null;
  const { lines, isWhole } = exporting.data;
  return (
    <Notice kind={isWhole ? "ok" : "warn"} title={`${lines} lines were written`}>
      {isWhole ? null : `Only the newest ${MOST_LINES} lines of the log were looked at. What is older, the command line gives.`}
    </Notice>
  );
}
