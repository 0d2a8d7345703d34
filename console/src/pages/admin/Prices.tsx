import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import type { Prices as PriceList } from "../../market/market.ts";
import { queries as market } from "../../queries.ts";
import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import { DEFAULT, pricesSet, since } from "./prices/history.ts";
import { PriceButton } from "./prices/PriceButton.tsx";
import { PriceHistory } from "./prices/PriceHistory.tsx";
import { EVERY_OTHER } from "./prices/price.ts";
import { queries, rowsOf } from "./queries.ts";
import { useFirst } from "./use-first.ts";

/** What jobs cost now, since when, and what they cost before. */
export function Prices() {
  const prices = useQuery(market.prices);
  const log = useInfiniteQuery(queries.log);
  const lines = log.data ? rowsOf(log.data) : [];
  const set = pricesSet(lines);
  return (
    <Page
      title="Prices"
      lead="In credits. A new price is a new version; jobs under way keep the one they were held with."
      actions={prices.data ? <PriceButton price={prices.data.default} /> : null}
    >
      <Card title="Now">
        <Loaded query={prices} what="The prices cannot be read now">
          {(data) => <Now prices={data} from={since(set)} />}
        </Loaded>
      </Card>
      <PriceHistory log={log} set={set} read={lines.length} />
    </Page>
  );
}

const FEW = 20;

function Now({ prices, from }: { prices: PriceList; from: Map<string, string> }) {
  const own = Object.entries(prices.models).map(([model, price]) => ({ model: model as string | null, price }));
  const { shown, left, more } = useFirst([{ model: null, price: prices.default }, ...own], FEW);
  return (
    <>
      <Table
        caption="Prices now"
        rows={shown}
        keyOf={({ model }) => model ?? ""}
        columns={[
          { name: "Model", cell: ({ model }) => (model === null ? EVERY_OTHER : <code>{model}</code>) },
          { name: "Per job", isFigure: true, cell: ({ price }) => <Credits amount={price.job} bare /> },
          { name: "Million tokens in", isFigure: true, cell: ({ price }) => <Credits amount={price.prompt_per_million} bare /> },
          { name: "Million tokens out", isFigure: true, cell: ({ price }) => <Credits amount={price.completion_per_million} bare /> },
          { name: "Version", isFigure: true, cell: ({ price }) => price.version },
          {
            name: "From",
            cell: ({ model }) => {
              const at = from.get(model ?? DEFAULT);
              return at ? <Time at={at} /> : "earlier";
            },
          },
          {
            name: "Actions",
            cell: ({ model, price }) => (
              <div className={style.actions}>
                <PriceButton model={model} price={price} />
              </div>
            ),
          },
        ]}
      />
      {left > 0 ? (
        <p className={style.actions}>
          <Button onClick={more}>Show more</Button>
        </p>
      ) : null}
    </>
  );
}
