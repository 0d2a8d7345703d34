import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Segments } from "../../components/Segments.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Table } from "../../components/Table.tsx";
import { isZero } from "../../money.ts";
import { percent } from "../../words.ts";
import { dayName } from "./days.ts";
import style from "./EarningsCard.module.css";
import { ModelBars } from "./ModelBars.tsx";
import { type Days, PERIODS, readSearch, type View } from "./periods.ts";
import { type Earnings, type ProviderStats, provider } from "./queries.ts";

const DayChart = lazy(() => import("./DayChart.tsx").then((chart) => ({ default: chart.DayChart })));

const DAYS = PERIODS.map((days) => ({ value: String(days), name: `${days} days` }));
const VIEWS: readonly { value: View; name: string }[] = [
  { value: "chart", name: "Chart" },
  { value: "table", name: "Table" },
];

/** What was earned, by day and by model, as charts or as tables. The address keeps what one looks at. */
export function EarningsCard({ days }: { days: Days }) {
  const { view = "chart" } = useSearch({ from: "/dashboard/provider" });
  const navigate = useNavigate({ from: "/dashboard/provider" });
  const earnings = useQuery(provider.earnings(days));
  const stats = useQuery(provider.stats(days));
  const look = (next: { days?: Days; view?: View }) =>
    void navigate({ replace: true, resetScroll: false, search: readSearch({ days, view, ...next }) });
  return (
    <Card
      title="Earnings"
      aside={
        <div className={style.choices}>
          <Segments label="Period" options={DAYS} value={String(days)} onChoose={(value) => look({ days: Number(value) as Days })} />
          <Segments label="Shown as" options={VIEWS} value={view} onChoose={(value) => look({ view: value })} />
        </div>
      }
    >
      <Loaded query={earnings} what="The earnings cannot be read now" waits={<Skeleton height="24rem" />}>
        {(data) =>
          data.by_model.length === 0 ? (
            <Empty icon="coins" title={`Nothing was earned in ${data.by_day.length} days`}>
              Jobs come when consumers ask for a model that your machines offer. Each machine’s page says what keeps jobs away.
            </Empty>
          ) : view === "table" ? (
            <Tables data={data} stats={stats.data} />
          ) : (
            <Charts data={data} />
          )
        }
      </Loaded>
    </Card>
  );
}

function Charts({ data }: { data: Earnings }) {
  return (
    <div className={style.charts}>
      <div className={style.part}>
        <h3>By day, in credits</h3>
        <Suspense fallback={<ChartWaits />}>
          <DayChart days={data.by_day} />
        </Suspense>
      </div>
      <div className={style.part}>
        <h3>By model, in credits</h3>
        <ModelBars models={data.by_model} />
      </div>
    </div>
  );
}

function ChartWaits() {
  return (
    <div aria-busy="true">
      <Skeleton height="17rem" />
    </div>
  );
}

function Tables({ data, stats }: { data: Earnings; stats: ProviderStats | undefined }) {
  const newest = [...data.by_day].reverse();
  const done = new Map(stats?.by_model.map((row) => [row.model, row]));
  return (
    <div className={`${style.charts} ${style.tables}`}>
      <div className={style.part}>
        <h3>By day</h3>
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard */}
        <div className={style.scroll} role="group" aria-label="Days" tabIndex={0}>
          <Table
            caption="Earnings by day"
            rows={newest}
            keyOf={(row) => row.date}
            columns={[
              { name: "Day", cell: (row) => <time dateTime={row.date}>{dayName(row.date)}</time> },
              { name: "Jobs", isFigure: true, cell: (row) => row.jobs.toLocaleString("en") },
              { name: "Credits", isFigure: true, cell: (row) => (isZero(row.earned) ? "–" : <Credits amount={row.earned} bare />) },
            ]}
          />
        </div>
      </div>
      <div className={style.part}>
        <h3>By model</h3>
        <Table
          caption="Earnings by model"
          rows={data.by_model}
          keyOf={(row) => row.model}
          columns={[
            { name: "Model", cell: (row) => <code>{row.model || "other"}</code> },
            { name: "Jobs", isFigure: true, cell: (row) => row.jobs.toLocaleString("en") },
            { name: "Success", isFigure: true, cell: (row) => percent(done.get(row.model)?.success_rate ?? null) },
            { name: "Credits", isFigure: true, cell: (row) => <Credits amount={row.earned} bare /> },
          ]}
        />
      </div>
    </div>
  );
}
