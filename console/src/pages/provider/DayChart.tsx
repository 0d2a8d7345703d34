import { Bar, BarChart, CartesianGrid, ResponsiveContainer, Tooltip, XAxis, YAxis } from "recharts";
import { credits } from "../../money.ts";
import { counted } from "../../words.ts";
import style from "./DayChart.module.css";
import { type Day, dayName, heights, inWords, shortDay } from "./days.ts";

const HEIGHT_PX = 240;
const LABEL_EVERY_PX = 56;
const TICK = { fill: "var(--muted)", fontSize: 12 };

/** Earnings by day, as bars. The arrow keys go from day to day. */
export function DayChart({ days }: { days: readonly Day[] }) {
  const bars = heights(days);
  return (
    <figure className={style.chart}>
      <ResponsiveContainer width="100%" height={HEIGHT_PX}>
        <BarChart data={bars} margin={{ top: 8, right: 4, bottom: 0, left: 0 }} title="Earnings by day" desc={inWords(days)}>
          <CartesianGrid vertical={false} stroke="var(--hairline)" />
          <XAxis
            dataKey="date"
            tickFormatter={shortDay}
            tick={TICK}
            tickLine={false}
            axisLine={{ stroke: "var(--hairline)" }}
            minTickGap={LABEL_EVERY_PX / 2}
          />
          <YAxis tick={TICK} tickLine={false} axisLine={false} width={44} allowDecimals />
          <Tooltip cursor={{ fill: "var(--glow-royal)" }} content={<Told />} isAnimationActive={false} />
          <Bar dataKey="height" fill="var(--gold-fill)" radius={[4, 4, 0, 0]} maxBarSize={36} activeBar={{ fill: "var(--gold-light)" }} />
        </BarChart>
      </ResponsiveContainer>
      <figcaption>{inWords(days)}</figcaption>
    </figure>
  );
}

interface Pointed {
  active?: boolean;
  payload?: readonly { payload?: { day: Day } }[];
}

/** What is told of the day that is pointed at. */
function Told({ active, payload }: Pointed) {
  const day = payload?.[0]?.payload?.day;
  if (!active || !day) return null;
  return (
    <div className={style.told}>
      <span>{dayName(day.date)}</span>
      <strong className="figures">{credits(day.earned)}</strong>
      <span>{counted(day.jobs, "job")}</span>
    </div>
  );
}
