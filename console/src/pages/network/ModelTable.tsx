import { ButtonLink } from "../../components/Button.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Status } from "../../components/Status.tsx";
import { type Column, Table } from "../../components/Table.tsx";
import type { Model } from "../../market/market.ts";
import { inOrder } from "../../market/order.ts";
import { isZero } from "../../money.ts";
import { counted, listed } from "../../words.ts";

const FACTS: readonly Column<Model>[] = [
  { name: "Model", cell: (model) => <code>{model.name}</code> },
  {
    name: "Nodes",
    cell: (model) => <Status tone={model.online ? "ok" : "none"}>{model.online ? counted(model.nodes, "node") : "None now"}</Status>,
  },
  { name: "Providers", cell: (model) => listed(model.providers) || "–" },
  { name: "Context", isFigure: true, cell: (model) => model.context_tokens?.toLocaleString("en") ?? "–" },
  { name: "Per job", isFigure: true, cell: (model) => <Credits amount={model.price.job} /> },
];
const TOKENS: readonly Column<Model>[] = [
  { name: "Million tokens in", isFigure: true, cell: (model) => <Credits amount={model.price.prompt_per_million} bare /> },
  { name: "Million tokens out", isFigure: true, cell: (model) => <Credits amount={model.price.completion_per_million} bare /> },
];
const USE: Column<Model> = {
  name: "Use",
  isFigure: true,
  cell: (model) => (
    <ButtonLink to="/dashboard" search={{ model: model.name }} aria-label={`Use ${model.name}`}>
      Use
    </ButtonLink>
  ),
};

/** Models with their nodes, contexts and prices; prices of tokens only where there are any. */
export function ModelTable({ models }: { models: readonly Model[] }) {
  const hasTokenPrices = models.some(({ price }) => !isZero(price.prompt_per_million) || !isZero(price.completion_per_million));
  return (
    <Table
      caption="Models"
      rows={inOrder(models)}
      keyOf={(model) => model.name}
      columns={[...FACTS, ...(hasTokenPrices ? TOKENS : []), USE]}
    />
  );
}
