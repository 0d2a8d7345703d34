import encode from "qr";
import decode from "qr/decode.js";
import { describe, expect, it } from "vitest";
import { pathOf } from "./Qr.tsx";

/** Draws a path of runs again. */
function drawn(path: string, size: number): boolean[][] {
  const rows = Array.from({ length: size }, () => Array<boolean>(size).fill(false));
  for (const [, x, y, length] of path.matchAll(/M(\d+) (\d+)h(\d+)v1h-\d+z/g)) {
    rows[Number(y)]?.fill(true, Number(x), Number(x) + Number(length));
  }
  return rows;
}

/** What a camera sees of it, so many pixels to a module. */
function photo(rows: readonly (readonly boolean[])[], scale: number) {
  const size = rows.length * scale;
  const data = new Uint8Array(4 * size * size).fill(255);
  for (let at = 0; at < size * size; at += 1) {
    const [x, y] = [Math.floor((at % size) / scale), Math.floor(at / size / scale)];
    if (rows[y]?.[x]) data.fill(0, 4 * at, 4 * at + 3);
  }
  return { width: size, height: size, data };
}

describe("a QR code", () => {
  it("is drawn as it was encoded, module by module", () => {
    const rows = encode("otpauth://totp/GPU-For-Everyone:ada?secret=ABCDEFGHIJKLMNOP&issuer=GPU-For-Everyone", "raw", { ecc: "medium" });
    expect(drawn(pathOf(rows), rows.length)).toEqual(rows);
  });

  it("is read by a camera as the text that it was made of", () => {
    const text = "otpauth://totp/GPU-For-Everyone:ada?secret=ABCDEFGHIJKLMNOP&issuer=GPU-For-Everyone";
    const rows = encode(text, "raw", { ecc: "medium", border: 4 });
    expect(decode(photo(drawn(pathOf(rows), rows.length), 5))).toBe(text);
  });

  it("has its runs to the edge", () => {
    expect(
      pathOf([
        [true, true],
        [false, true],
      ]),
    ).toBe("M0 0h2v1h-2zM1 1h1v1h-1z");
  });
});
