const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;
const STEP = 1000;
const FORMAT = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });

/** Write a size for people, in steps of a thousand. */
export function bytes(size: number): string {
  let left = size;
  let unit = 0;
  while (left >= STEP && unit < UNITS.length - 1) {
    left /= STEP;
    unit += 1;
  }
  return `${FORMAT.format(left)} ${UNITS[unit]}`;
}
