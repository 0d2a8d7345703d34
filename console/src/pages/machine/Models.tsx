import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Meter } from "../../components/Meter.tsx";
import { Status } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { bytes } from "../provider/hardware.ts";
import { type Admission, type LiveModel, type LiveNode, type OwnNode, provider, type WhyNoJobs } from "../provider/queries.ts";
import style from "./Models.module.css";
import { Said } from "./Said.tsx";
import { offering, whyOf } from "./words.ts";

const FIRST = 10;

/** A model as the machine has it, as the platform places by it, and as it was tested. */
interface Row {
  model: LiveModel;
  said: WhyNoJobs["models"][number] | undefined;
  test: Admission | undefined;
}

/** The machine's models: whether jobs of each may come, how it does, and what its tests came to. */
export function Models({ node, live }: { node: OwnNode; live: LiveNode | undefined }) {
  const [isAll, showAll] = useState(false);
  const { data: why } = useQuery(provider.why(node.id));
  if (!live?.online || live.models.length === 0) {
    return (
      <Card title="Models">
        <Empty icon="chip" title={live?.online ? "It offers no model" : "Its models are told while it is connected"}>
          {live?.online ? "Pull one on the machine, for example: ollama pull llama3.2:3b. It is offered within half a minute." : null}
        </Empty>
      </Card>
    );
  }
  const said = new Map(why?.models.map((one) => [one.model, one]));
  const tests = new Map(node.admissions.map((one) => [one.model, one]));
  const rows = live.models.map((model) => ({ model, said: said.get(model.name), test: tests.get(model.name) }));
  return (
    <Card title="Models">
      <ModelTable rows={isAll ? rows : rows.slice(0, FIRST)} />
      {!isAll && rows.length > FIRST ? (
        <div className={style.rest}>
          <Button onClick={() => showAll(true)}>Show all {rows.length} models</Button>
        </div>
      ) : null}
    </Card>
  );
}

function ModelTable({ rows }: { rows: readonly Row[] }) {
  return (
    <Table
      caption="Models of this machine"
      rows={rows}
      keyOf={({ model }) => model.name}
      columns={[
        { name: "Model", cell: (row) => <Named row={row} /> },
        { name: "Offered", cell: (row) => <Offered row={row} /> },
        { name: "Context", isFigure: true, cell: ({ model }) => model.context_tokens.toLocaleString("en") },
        { name: "Memory", isFigure: true, cell: ({ model }) => bytes(model.took_bytes ?? model.needed_bytes ?? model.size_bytes) },
        { name: "Tokens/s", isFigure: true, cell: ({ model, test }) => decimal(model.tokens_per_s ?? test?.tokens_per_s, 1) },
        { name: "First token, s", isFigure: true, cell: ({ model, test }) => decimal(model.first_token_s ?? test?.first_token_s, 2) },
      ]}
    />
  );
}

function Named({ row: { model, said, test } }: { row: Row }) {
  return (
    <div className={style.model}>
      <code>{model.name}</code>
      <span className={style.why}>
        <Said text={whyOf(said?.why, test?.said, model.trouble)} />
      </span>
      {test?.state === "testing" ? (
        <Meter label="Tests passed" value={test.passed} most={test.wanted} words={`${test.passed} of ${test.wanted}`} />
      ) : null}
    </div>
  );
}

function Offered({ row }: { row: Row }) {
  const { tone, word } = offering(row.said?.offered, row.test?.state);
  return <Status tone={tone}>{word}</Status>;
}

function decimal(value: number | null | undefined, places: number): string {
  return value?.toFixed(places) ?? "–";
}
