import { Select } from "@mantine/core";
import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { choice } from "../../components/choice.ts";
import { Empty } from "../../components/Empty.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { save } from "../../save.ts";
import { shortId } from "./ids.ts";
import { type Entry, isKind, KIND_WORDS, KINDS, type Kind, partsOf } from "./kinds.ts";
import style from "./Log.module.css";
import { statement, wallet } from "./queries.ts";

const DATA = KINDS.map((value) => ({ value, label: KIND_WORDS[value] }));

/** Every movement, by pages; one kind of them if asked; all of it as a file. */
export function Log({ kind }: { kind: Kind | undefined }) {
  const log = useInfiniteQuery(wallet.log(kind));
  const navigate = useNavigate({ from: "/dashboard/wallet" });
  const rows = log.data?.pages.flatMap((page) => page.logs) ?? [];
  const choose = (wanted: string | null) =>
    void navigate({ resetScroll: false, search: ({ kind: _, ...rest }) => (isKind(wanted) ? { ...rest, kind: wanted } : rest) });
  return (
    <Card title="Statement" aside={<Export kind={kind} />}>
      <div className={style.place}>
        <Select
          {...choice}
          aria-label="Kind"
          placeholder="All kinds"
          data={DATA}
          value={kind ?? null}
          onChange={choose}
          clearable
          clearButtonProps={{ "aria-label": "All kinds" }}
          className={style.kind ?? ""}
        />
        <Loaded query={log} what="The statement cannot be read now" waits={<Skeleton height="20rem" />}>
          {() =>
            rows.length > 0 ? (
              <Entries rows={rows} />
            ) : kind ? (
              <Empty
                icon="search"
                title="No entry is of this kind"
                action={
                  <ButtonLink to="/dashboard/wallet" resetScroll={false}>
                    Show all
                  </ButtonLink>
                }
              />
            ) : (
              <Empty icon="receipt" title="Nothing has moved yet">
                Each job, each deposit and each withdrawal leaves a line here.
              </Empty>
            )
          }
        </Loaded>
        <More query={log} />
      </div>
    </Card>
  );
}

function Entries({ rows }: { rows: readonly Entry[] }) {
  return (
    <>
      <Table
        caption="Entries, the newest first"
        rows={rows}
        keyOf={(entry) => entry.id}
        columns={[
          { name: "Entry", cell: (entry) => <Description entry={entry} /> },
          { name: "When", cell: (entry) => <Time at={entry.created_at} /> },
          { name: "Credits", isFigure: true, cell: (entry) => <Amount amount={entry.amount} /> },
          { name: "Balance after", isFigure: true, cell: (entry) => <Credits amount={entry.balance_after} bare /> },
        ]}
      />
      {rows.some((entry) => entry.kind === "job_earning" || entry.kind.startsWith("withdrawal")) ? (
        <p className={style.note}>Earnings are kept apart from what you can spend: beside those, the balance is that of your earnings.</p>
      ) : null}
    </>
  );
}

/** The job is a link where it is one's own. */
function Description({ entry }: { entry: Entry }) {
  const [before, job, after] = partsOf(entry);
  if (job === "") return <>{before}</>;
  return (
    <>
      {before}
      {entry.kind === "job_earning" ? (
        <span title={job}>{shortId(job)}</span>
      ) : (
        <Link to="/dashboard/jobs/$id" params={{ id: job }} title={job}>
          {shortId(job)}
        </Link>
      )}
      {after}
    </>
  );
}

function Amount({ amount }: { amount: string }) {
  return (
    <span className={amount.startsWith("-") ? "" : style.in}>
      <Credits amount={amount} signed bare />
    </span>
  );
}

/** Saves the statement, of the chosen kind, as a file. */
function Export({ kind }: { kind: Kind | undefined }) {
  const exported = useMutation({
    mutationFn: () => statement(kind),
    onSuccess: (text) => save(kind ? `statement-${kind}.csv` : "statement.csv", text, "text/csv"),
  });
  return (
    <>
      <Button icon={<Icon name="download" size={18} />} busy={exported.isPending} onClick={() => exported.mutate()}>
        {kind ? "Save these as CSV" : "Save as CSV"}
      </Button>
      {exported.error ? (
        <div className={style.failure}>
          <Failure problem={exported.error} what="The statement could not be saved" onRetry={() => exported.mutate()} />
        </div>
      ) : null}
    </>
  );
}
