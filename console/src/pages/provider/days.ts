import { figure, micros } from "../../money.ts";
import type { Earnings } from "./queries.ts";

/** Days of earnings, for the chart and in words. Pure. Days are UTC's, as the books are. */

export type Day = Earnings["by_day"][number];

const LONG = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" });
const SHORT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });

export const dayName = (date: string): string => LONG.format(new Date(`${date}T00:00:00Z`));
export const shortDay = (date: string): string => SHORT.format(new Date(`${date}T00:00:00Z`));

/** What is drawn: how high a bar is. The amount in words stays the API's own text; this number is for the drawing alone. */
export function heights(days: readonly Day[]): { date: string; height: number; day: Day }[] {
  return days.map((day) => ({ date: day.date, height: Number(micros(day.earned)) / 1e6, day }));
}

/** What the chart shows, for those who do not see it: `12 of 30 days brought something; the best was Tue, 24 Nov with 3.00 credits.` */
export function inWords(days: readonly Day[]): string {
  const some = days.filter((day) => micros(day.earned) > 0n);
  const best = some.reduce<Day | undefined>((most, day) => (most && micros(most.earned) >= micros(day.earned) ? most : day), undefined);
  if (best === undefined) return `None of ${days.length} days brought anything.`;
  return `${some.length} of ${days.length} days brought something; the best was ${dayName(best.date)} with ${figure(best.earned)} credits.`;
}
