/** Programs and systems by a word of what they call themselves; the first that fits counts, for many name others, too. */
const PROGRAMS: readonly (readonly [RegExp, string])[] = [
  [/\bEdg(e|A|iOS)?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\bFirefox\/|\bFxiOS\//, "Firefox"],
  [/\bChrome\/|\bCriOS\/|\bChromium\//, "Chrome"],
  [/\bSafari\//, "Safari"],
];
const SYSTEMS: readonly (readonly [RegExp, string])[] = [
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b|\bMacintosh\b/, "macOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bLinux\b/, "Linux"],
];

/** A program's name for people, by its User-Agent: `Firefox on Linux`; of others than browsers the word before the slash. */
export function programName(agent: string | null): string {
  if (!agent) return "Unknown program";
  const found = (names: readonly (readonly [RegExp, string])[]) => names.find(([sign]) => sign.test(agent))?.[1];
  const [program, system] = [found(PROGRAMS), found(SYSTEMS)];
  if (program && system) return `${program} on ${system}`;
  return program ?? agent.split(/[/\s]/)[0] ?? agent;
}
