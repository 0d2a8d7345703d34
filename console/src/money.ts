/**
 * Money: decimal strings of the API in, text for people out. Everything is counted in micro-credits, as whole numbers; no float is ever made
 * of an amount. The one unit is the credit.
 */

const AMOUNT = /^(-?)(\d+)(?:\.(\d{1,6}))?$/;
const MICROS = 1_000_000n;
export const UNIT = "credits";

/** Read an amount of the API, in micro-credits. Throws a RangeError for anything else. */
export function micros(amount: string): bigint {
  const [, sign, whole, fraction = ""] = AMOUNT.exec(amount) ?? [];
  if (whole === undefined) throw new RangeError(`not an amount: ${amount}`);
  const value = BigInt(whole) * MICROS + BigInt(fraction.padEnd(6, "0"));
  return sign ? -value : value;
}

/** Write micro-credits as the API writes them: at least two decimals, at most six. */
export function amountOf(value: bigint): string {
  const size = value < 0n ? -value : value;
  const fraction = (size % MICROS)
    .toString()
    .padStart(6, "0")
    .replace(/0{1,4}$/, "");
  return `${value < 0n ? "-" : ""}${size / MICROS}.${fraction}`;
}

/** Add amounts. */
export function sum(amounts: Iterable<string>): string {
  let total = 0n;
  for (const amount of amounts) total += micros(amount);
  return amountOf(total);
}

/** One amount less another. */
export function less(amount: string, other: string): string {
  return amountOf(micros(amount) - micros(other));
}

/** Negative, zero or positive, as for sorting. */
export function compare(one: string, other: string): number {
  const difference = micros(one) - micros(other);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

export function isZero(amount: string): boolean {
  return micros(amount) === 0n;
}

/** Write an amount for people, without its unit: groups of three, a true minus; `signed` puts a plus before what comes in. */
export function figure(amount: string, { signed = false }: { signed?: boolean } = {}): string {
  const value = micros(amount);
  const [whole = "0", fraction = "00"] = amountOf(value < 0n ? -value : value).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f"); // a narrow space: right in every language
  return `${value < 0n ? "\u2212" : signed && value > 0n ? "+" : ""}${grouped}.${fraction}`;
}

/** Write an amount with its unit: `1.00 credit`, `25.00 credits`. */
export function credits(amount: string, options?: { signed?: boolean }): string {
  const value = micros(amount);
  return `${figure(amount, options)}\u00a0${value === MICROS || value === -MICROS ? "credit" : UNIT}`;
}

/** Read what somebody typed into a field for an amount: the API's form of it, or undefined. Takes a comma for a point, and spaces. */
export function typed(text: string): string | undefined {
  const tidy = text.replace(/[\s\u00a0\u202f]/g, "").replace(",", ".");
  return AMOUNT.test(tidy) ? amountOf(micros(tidy)) : undefined;
}
