import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type Palette, palettes, type Scheme } from "./tokens.ts";

/** Relative luminance of a color (WCAG 2.2, "relative luminance"). */
function luminance(color: string): number {
  const parts = [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16) / 255);
  const [red = 0, green = 0, blue = 0] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [light = 0, dark = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

const grounds = ["ground", "surface", "raised"] as const;
const texts = ["text", "muted", "gold", "royal", "ok", "warn", "bad"] as const;

describe.each(["dark", "light"] as Scheme[])("the %s page", (scheme) => {
  const palette: Palette = palettes[scheme];

  it.each(grounds.flatMap((ground) => texts.map((text) => [text, ground] as const)))("%s can be read on %s", (text, ground) => {
    expect(contrast(palette[text], palette[ground])).toBeGreaterThanOrEqual(4.5);
  });

  it.each(grounds)("borders of controls can be seen on %s", (ground) => {
    expect(contrast(palette.control, palette[ground])).toBeGreaterThanOrEqual(3);
  });

  it("ink can be read on gold, also when the pointer is on it", () => {
    expect(contrast(palette.ink, palette.goldFill)).toBeGreaterThanOrEqual(4.5);
    expect(contrast(palette.ink, palette.goldLight)).toBeGreaterThanOrEqual(4.5);
  });

  it("is what the style sheet says", () => {
    const sheet = readFileSync(new URL("tokens.css", import.meta.url), "utf8");
    const block = sheet.match(new RegExp(`data-mantine-color-scheme="${scheme}"\\] \\{([^}]*)\\}`))?.[1] ?? "";
    const written = Object.fromEntries([...block.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, name, color]) => [name, color]));
    const expected = Object.entries(palette).map(([name, color]) => [
      name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
      color,
    ]);
    expect(written).toEqual(Object.fromEntries(expected));
  });
});
