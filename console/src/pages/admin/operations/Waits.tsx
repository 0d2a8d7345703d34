import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Card } from "../../../components/Card.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Icon, type IconName } from "../../../components/Icon.tsx";
import { Skeleton } from "../../../components/Skeleton.tsx";
import { type PageOf, queries, rowsOf } from "../queries.ts";
import style from "./Waits.module.css";

const EVERY_MS = 30_000;

/** What waits for an operator, each with the way there. */
export function Waits() {
  const withdrawals = useInfiniteQuery({ ...queries.withdrawals("PENDING"), refetchInterval: EVERY_MS });
  const corrections = useInfiniteQuery({ ...queries.corrections, refetchInterval: EVERY_MS });
  const appeals = useInfiniteQuery({ ...queries.appeals("OPEN"), refetchInterval: EVERY_MS });
  const suspects = useInfiniteQuery({ ...queries.suspects, refetchInterval: EVERY_MS });
  const failed = [withdrawals, corrections, appeals, suspects].find((query) => query.error);
  return (
    <Card title="What waits">
      {failed?.error ? (
        <Failure problem={failed.error} what="Not everything that waits can be read now" onRetry={() => void failed.refetch()} />
      ) : null}
      <ul className={style.waits}>
        <Wait to="/admin/withdrawals" icon="coins" name="Withdrawals to pay" count={counted(withdrawals.data, () => true)} />
        <Wait
          to="/admin/corrections"
          icon="receipt"
          name="Corrections to approve"
          count={counted(corrections.data, (row) => row.state === "PENDING")}
        />
        <Wait to="/admin/appeals" icon="scale" name="Appeals to decide" count={counted(appeals.data, () => true)} />
        <Wait
          to="/admin/nodes"
          icon="chip"
          name="Nodes in quarantine"
          count={counted(suspects.data, (row) => row.state === "quarantined")}
        />
      </ul>
    </Card>
  );
}

/** How many of the rows read so far wait; `20+` where there is a next page. */
function counted<Row>(data: { pages: PageOf<Row>[]; pageParams: unknown[] } | undefined, waits: (row: Row) => boolean) {
  if (data === undefined) return undefined;
  const count = rowsOf(data).filter(waits).length;
  return data.pages.at(-1)?.next ? `${count}+` : String(count);
}

function Wait({ to, icon, name, count }: { to: string; icon: IconName; name: string; count: string | undefined }) {
  return (
    <li>
      <Link to={to} className={style.wait} data-waits={count !== undefined && count !== "0"}>
        <Icon name={icon} />
        <span>{name}</span>
        <strong className="figures">{count ?? <Skeleton width="2ch" />}</strong>
      </Link>
    </li>
  );
}
