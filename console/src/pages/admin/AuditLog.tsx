import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import { Actor } from "./audit-log/Actor.tsx";
import { ChainButton, ChainNews, useChainCheck } from "./audit-log/ChainCheck.tsx";
import { Detail } from "./audit-log/Detail.tsx";
import { ExportButton, ExportNews, useExport } from "./audit-log/ExportButton.tsx";
import { filtered } from "./audit-log/filter.ts";
import { type LogLine, queries, rowsOf } from "./queries.ts";
import { Search } from "./Search.tsx";

/** Who did what to whom, from where. */
export function AuditLog() {
  const [text, setText] = useState("");
  const log = useInfiniteQuery(queries.log);
  const check = useChainCheck();
  const exporting = useExport(text);
  return (
    <Page
      title="Audit log"
      lead="Who did what to whom, and from where. It is only ever added to, and sealed with a chain of hashes."
      actions={
        <>
          <ChainButton check={check} />
          <ExportButton exporting={exporting} />
        </>
      }
    >
      <ChainNews check={check} />
      <ExportNews exporting={exporting} />
      <Card>
        <div className={style.bar}>
          <Search
            label="Filter"
            hint="An action, an id, an address, a word of the detail. It looks at what was read so far."
            value={text}
            onSearch={setText}
          />
        </div>
        <Loaded query={log} what="The audit log cannot be read now" waits={<Skeleton height="32rem" />}>
          {(data) => {
            const lines = rowsOf(data);
            return <Lines lines={filtered(lines, text)} read={lines.length} text={text} />;
          }}
        </Loaded>
        <More query={log} />
      </Card>
    </Page>
  );
}

function Lines({ lines, read, text }: { lines: readonly LogLine[]; read: number; text: string }) {
  return (
    <>
      <p className={style.said} role="status">
        {text ? `${lines.length} of the newest ${read} lines fit.` : `The newest ${read} lines.`}
      </p>
      {lines.length === 0 ? (
        <Empty icon="search" title={text ? `Nothing fits “${text}” so far` : "Nothing was done yet"}>
          {text ? "Show more lines to look further back." : null}
        </Empty>
      ) : (
        <Table
          caption="Audit log"
          rows={lines}
          keyOf={(line) => String(line.seq)}
          columns={[
            {
              name: "Action",
              cell: (line) => (
                <span className={style.two}>
                  <code>{line.action}</code>
                  <small>line {line.seq}</small>
                </span>
              ),
            },
            { name: "When", cell: (line) => <Time at={line.at} /> },
            { name: "Who", cell: (line) => <Actor actor={line.actor} /> },
            { name: "To", cell: (line) => <code>{line.target}</code> },
            { name: "From", cell: (line) => line.address ?? "–" },
            { name: "Detail", cell: (line) => <Detail detail={line.detail} /> },
          ]}
        />
      )}
    </>
  );
}
