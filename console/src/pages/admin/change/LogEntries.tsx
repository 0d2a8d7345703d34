import { queryOptions, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Loaded } from "../../../components/Loaded.tsx";
import { Skeleton } from "../../../components/Skeleton.tsx";
import { Time } from "../../../components/Time.tsx";
import { Detail } from "../audit-log/Detail.tsx";
import { askLog, keys } from "../queries.ts";
import style from "./LogEntries.module.css";

const entriesOf = (requestId: string) =>
  queryOptions({
    queryKey: keys.logOf(requestId),
    queryFn: async () => (await askLog()).results.filter((line) => line.request_id === requestId),
  });

/** What the audit log has of one change. */
export function LogEntries({ requestId }: { requestId: string }) {
  const entries = useQuery(entriesOf(requestId));
  return (
    <section aria-label="In the audit log" className={style.entries}>
      <h3>In the audit log</h3>
      <Loaded query={entries} what="The audit log cannot be read now" waits={<Skeleton height="5rem" />}>
        {(lines) =>
          lines.length === 0 ? (
            <p>
              No line of it is among the newest: look in the <Link to="/admin/audit-log">audit log</Link>.
            </p>
          ) : (
            <ol>
              {lines.map((line) => (
                <li key={line.seq}>
                  <p className={style.head}>
                    <code>{line.action}</code>
                    <span>
                      line {line.seq}, <Time at={line.at} />
                    </span>
                  </p>
                  <code className={style.target}>{line.target}</code>
                  <Detail detail={line.detail} />
                </li>
              ))}
            </ol>
          )
        }
      </Loaded>
    </section>
  );
}
