import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { queries } from "../../queries.ts";
import { shortId } from "./ids.ts";
import style from "./Wallet.module.css";

/** What is reserved for jobs that are not done. */
export function Holds() {
  const wallet = useQuery(queries.wallet);
  return (
    <Card title="Open holds">
      <Loaded query={wallet} what="The holds cannot be read now" waits={<Skeleton height="3rem" />}>
        {({ holds }) => (
          <>
            {holds.length > 0 ? (
              <Table
                caption="Open holds, the newest first"
                rows={holds}
                keyOf={(hold) => hold.job_id}
                columns={[
                  {
                    name: "Job",
                    cell: (hold) => (
                      <Link to="/dashboard/jobs/$id" params={{ id: hold.job_id }} title={hold.job_id}>
                        Job {shortId(hold.job_id)}
                      </Link>
                    ),
                  },
                  { name: "Since", cell: (hold) => <Time at={hold.created_at} /> },
                  { name: "Held", isFigure: true, cell: (hold) => <Credits amount={hold.amount} /> },
                ]}
              />
            ) : null}
            <p className={style.note}>
              {holds.length > 0
                ? "The most that each of these jobs can cost. When it is done only what it cost is taken, and the rest is yours again."
                : "Nothing is held now. While a job is open the most that it can cost is held for it; what it does not cost comes back."}
            </p>
          </>
        )}
      </Loaded>
    </Card>
  );
}
