import { type UseInfiniteQueryResult, useQuery } from "@tanstack/react-query";
import { ButtonLink } from "../../components/Button.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { MachineCard } from "./MachineCard.tsx";
import style from "./Machines.module.css";
import { type OwnNodePage, provider } from "./queries.ts";

/** One's machines, each as a card. */
export function Machines({ nodes }: { nodes: UseInfiniteQueryResult<{ pages: OwnNodePage[] }> }) {
  const live = useQuery(provider.live);
  return (
    <section aria-labelledby="machines" className={style.section}>
      <h2 id="machines">Machines</h2>
      {live.error ? (
        <Failure problem={live.error} what="How the machines are now cannot be read" onRetry={() => void live.refetch()} />
      ) : null}
      <Loaded query={nodes} what="The machines cannot be read now" waits={<Waits />}>
        {({ pages }) => {
          const all = pages.flatMap((page) => page.results);
          return all.length === 0 ? (
            <Empty
              icon="chip"
              title="No machine yet"
              action={
                <ButtonLink to="/dashboard/provider/add" look="gold" size="lg" icon={<Icon name="plus" size={18} />}>
                  Add a machine
                </ButtonLink>
              }
            >
              A computer with Ollama, or with nothing but a fast processor, earns credits while you do not need it: one code, one line, no
              open port.
            </Empty>
          ) : (
            <>
              <ul className={style.cards}>
                {all.map((node) => (
                  <MachineCard key={node.id} node={node} live={live.data?.get(node.id)} />
                ))}
              </ul>
              <More query={nodes} />
            </>
          );
        }}
      </Loaded>
    </section>
  );
}

function Waits() {
  return (
    <div className={style.cards}>
      <Skeleton height="18.5rem" />
      <Skeleton height="18.5rem" />
    </div>
  );
}
