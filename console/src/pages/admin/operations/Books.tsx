import { useQuery } from "@tanstack/react-query";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Button } from "../../../components/Button.tsx";
import { Card } from "../../../components/Card.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Icon } from "../../../components/Icon.tsx";
import { Notice } from "../../../components/Notice.tsx";
import { Time } from "../../../components/Time.tsx";
import style from "../admin.module.css";
import { type Findings, keys } from "../queries.ts";
import { BookRules } from "./BookRules.tsx";

/** Whether every rule of the books holds. Asked for by hand: it reads all entries that there are. */
export function Books() {
  const books = useQuery({
    queryKey: keys.books,
    queryFn: (): Promise<Findings> => answer(ledger.GET("/api/admin/audit/")),
    enabled: false,
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: Number.POSITIVE_INFINITY,
  });
  const check = () => void books.refetch();
  return (
    <Card
      title="Books"
      aside={
        <Button icon={<Icon name="check" size={18} />} busy={books.isFetching} onClick={check}>
          {books.data ? "Check again" : "Check now"}
        </Button>
      }
    >
      <div className={style.fields}>
        {books.error ? <Failure problem={books.error} what="The books cannot be checked now" onRetry={check} /> : null}
        {books.data ? (
          <>
            <Verdict findings={books.data} at={new Date(books.dataUpdatedAt).toISOString()} />
            <BookRules rules={books.data.rules} />
          </>
        ) : (
          <p className={style.said}>
            The ledger checks itself all the time, and holds nothing more on an account that it finds wrong. This checks every rule anew, on
            one snapshot of all entries.
          </p>
        )}
      </div>
    </Card>
  );
}

function Verdict({ findings, at }: { findings: Findings; at: string }) {
  const broken = findings.rules.filter((rule) => !rule.held).length;
  return findings.held ? (
    <Notice kind="ok" title={`All ${findings.rules.length} rules hold`}>
      Checked <Time at={at} />.
    </Notice>
  ) : (
    <Notice kind="bad" title={`${broken} of ${findings.rules.length} rules do not hold`}>
      Checked <Time at={at} />. Nothing new is held on the accounts named below until the audit finds them right.
    </Notice>
  );
}
