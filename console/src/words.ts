/** Numbers and lists in words. Pure. */

const GROUPED = new Intl.NumberFormat("en");

/** A number with its noun: `1 job`, `1,234 jobs`. */
export function counted(count: number, noun: string): string {
  return `${GROUPED.format(count)} ${count === 1 ? noun : `${noun}s`}`;
}

/** The first few of a list: `ada, bob, eve and 2 more`; empty: nothing is in it. */
export function listed(names: readonly string[], most = 3): string {
  const more = names.length - most;
  return names.slice(0, most).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** A share as people write it: `99.22 %`, `100 %`; never rounded up to all. */
export function percent(rate: number | null): string {
  if (rate === null) return "–";
  const places = rate > 0.99 ? 2 : 1;
  return `${(Math.floor(rate * 100 * 10 ** places + 1e-9) / 10 ** places).toFixed(places).replace(/\.0+$/, "")} %`;
}
