/** The colors, typed: the twin of tokens.css, which a test compares with it. Contrast is computed from here (contrast.test.ts). */

export interface Palette {
  /** Behind everything, cards on it, fields and rows on those. */
  ground: string;
  surface: string;
  raised: string;
  text: string;
  muted: string;
  /** Gold as text; `goldFill` is what buttons are made of, `ink` what is written on it. */
  gold: string;
  goldFill: string;
  goldLight: string;
  ink: string;
  /** Links and focus rings. */
  royal: string;
  ok: string;
  warn: string;
  bad: string;
  /** Borders of what can be operated. */
  control: string;
  /** Decoration only. */
  hairline: string;
}

export type Scheme = "dark" | "light";

export const palettes: Record<Scheme, Palette> = {
  dark: {
    ground: "#0b0a16",
    surface: "#151327",
    raised: "#1e1b36",
    text: "#f3f1fb",
    muted: "#a8a4c4",
    gold: "#dba83f",
    goldFill: "#dba83f",
    goldLight: "#f3cf70",
    ink: "#0b0a16",
    royal: "#a094ff",
    ok: "#45d98a",
    warn: "#f5b94d",
    bad: "#ff8080",
    control: "#726e98",
    hairline: "#2e2a4d",
  },
  light: {
    ground: "#f5f3fc",
    surface: "#ffffff",
    raised: "#efecf9",
    text: "#1a1633",
    muted: "#565072",
    gold: "#775200",
    goldFill: "#dba83f",
    goldLight: "#e9be5c",
    ink: "#0b0a16",
    royal: "#4c3bcf",
    ok: "#0b6b3d",
    warn: "#7d4e00",
    bad: "#b01e2e",
    control: "#7d7899",
    hairline: "#ddd8ef",
  },
};
