/** The periods that earnings are shown for, in days. */
export const PERIODS = [7, 14, 30, 90] as const;
export type Days = (typeof PERIODS)[number];
export const USUAL_DAYS: Days = 30;

export type View = "chart" | "table";

export interface ProviderSearch {
  days?: Days;
  view?: "table";
}

/** What an address asks for; the usual is left out of it. */
export function readSearch(search: Record<string, unknown>): ProviderSearch {
  const days = PERIODS.find((period) => period === Number(search.days));
  return { ...(days && days !== USUAL_DAYS ? { days } : {}), ...(search.view === "table" ? { view: "table" as const } : {}) };
}
