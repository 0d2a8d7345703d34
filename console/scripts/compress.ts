/** Lays a .br and a .gz beside each built text, so that nothing is compressed while it is served. */

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const BUILT = new URL("../../ledger/static/", import.meta.url).pathname;
const TEXTS = /\.(js|css|html|svg|json)$/;
const LEAST_BYTES = 1024; // smaller ones gain nothing

for (const name of readdirSync(BUILT, { recursive: true, encoding: "utf8" })) {
  const path = join(BUILT, name);
  if (!TEXTS.test(name) || statSync(path).size < LEAST_BYTES) continue;
  const text = readFileSync(path);
  writeFileSync(`${path}.br`, brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: text.length } }));
  writeFileSync(`${path}.gz`, gzipSync(text, { level: constants.Z_BEST_COMPRESSION }));
}
