/** Prints how much script each page loads, gzipped; fails when a page that everybody may see loads more than the limit. */

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

interface Chunk {
  file: string;
  src?: string;
  imports?: string[];
  dynamicImports?: string[];
  css?: string[];
}

const LIMIT_KB = 120;
const PUBLIC = /src\/pages\/(landing|login|register|not-found|mail)\//;
const BUILT = new URL("../../ledger/static/", import.meta.url);
const manifest = JSON.parse(readFileSync(new URL(".vite/manifest.json", BUILT), "utf8")) as Record<string, Chunk>;
const sizes = new Map<string, number>();

function kilobytes(file: string): number {
  if (!sizes.has(file)) sizes.set(file, gzipSync(readFileSync(new URL(file, BUILT)), { level: 9 }).length / 1000);
  return sizes.get(file) ?? 0;
}

/** A chunk and all that it cannot do without. */
function loaded(key: string, seen = new Set<string>()): Set<string> {
  if (seen.has(key)) return seen;
  seen.add(key);
  for (const other of manifest[key]?.imports ?? []) loaded(other, seen);
  return seen;
}

function weigh(keys: Iterable<string>): [script: number, style: number] {
  const chunks = [...keys].map((key) => manifest[key]).filter((chunk) => chunk !== undefined);
  const styles = new Set(chunks.flatMap((chunk) => chunk.css ?? []));
  return [sum(chunks.map((chunk) => kilobytes(chunk.file))), sum([...styles].map(kilobytes))];
}

const sum = (figures: number[]) => figures.reduce((total, one) => total + one, 0);

const first = loaded("index.html");
const row = (name: string, [script, style]: [number, number]) =>
  process.stdout.write(`${name.padEnd(44)} ${script.toFixed(1).padStart(8)} ${style.toFixed(1).padStart(8)}\n`);
process.stdout.write(`${"kB, gzip, with all that comes first".padEnd(44)} ${"script".padStart(8)} ${"style".padStart(8)}\n`);
row("every page", weigh(first));
let isTooMuch = false;
for (const key of Object.keys(manifest)
  .filter((one) => one.startsWith("src/"))
  .sort()) {
  const [script, style] = weigh(loaded(key, new Set(first)));
  row(key, [script, style]);
  if (PUBLIC.test(key) && script > LIMIT_KB) isTooMuch = true;
}
if (isTooMuch) {
  process.stderr.write(`more than ${LIMIT_KB} kB of script for a page that everybody may see\n`);
  process.exit(1);
}
