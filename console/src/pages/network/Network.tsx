import { useQuery } from "@tanstack/react-query";
import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { usePolling } from "../../live/use-live.ts";
import { queries } from "../../queries.ts";
import { Page } from "../../shell/Page.tsx";
import { Counts } from "./Counts.tsx";
import { ModelTable } from "./ModelTable.tsx";

const POLL_MS = 5_000;

/** F9: the market now, live. */
export function Network() {
  const models = useQuery({ ...queries.models, refetchInterval: usePolling(POLL_MS) });
  return (
    <Page title="Network" lead="Who is there now, what is offered, and what it costs.">
      <Counts everyMs={POLL_MS} />
      <Card title="Models">
        <Loaded query={models} what="The models cannot be read now" waits={<Skeleton height="16rem" />}>
          {(data) =>
            data.models.length === 0 ? (
              <Empty
                icon="chip"
                title="No machine offers a model at the moment"
                action={<ButtonLink to="/dashboard/provider/add">Add yours</ButtonLink>}
              >
                Jobs can be submitted all the same: they wait for a while for a machine to come.
              </Empty>
            ) : (
              <ModelTable models={data.models} />
            )
          }
        </Loaded>
      </Card>
    </Page>
  );
}
