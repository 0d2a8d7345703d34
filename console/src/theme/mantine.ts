import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

/** Ten steps, light to dark; step 5 is the token. */
const royal: MantineColorsTuple = [
  "#f1efff",
  "#dedaff",
  "#c7c0ff",
  "#b3a9ff",
  "#a79cff",
  "#a094ff",
  "#7a6bf0",
  "#5e4de0",
  "#4c3bcf",
  "#3a2ca6",
];
const gold: MantineColorsTuple = [
  "#fdf6e3",
  "#f9e9bd",
  "#f6dc95",
  "#f3cf70",
  "#e9be5c",
  "#dba83f",
  "#bd8a24",
  "#966a11",
  "#775200",
  "#543900",
];
/** Mantine's own shades of a dark page: text first, ground last. */
const dark: MantineColorsTuple = [
  "#f3f1fb",
  "#d9d6ea",
  "#a8a4c4",
  "#726e98",
  "#3a355d",
  "#2e2a4d",
  "#1e1b36",
  "#151327",
  "#0f0d1e",
  "#0b0a16",
];

/**
 * Mantine's theme, made of our tokens.
 *
 * Its variables are not written by MantineProvider, which would need a `<style>` element that the page's policy forbids, but stand in
 * mantine.css, which `npm run generate` makes from this.
 */
export const theme = createTheme({
  colors: { royal, gold, dark },
  primaryColor: "gold",
  primaryShade: 5,
  autoContrast: true,
  black: "#1a1633",
  white: "#ffffff",
  defaultRadius: "md",
  radius: { xs: "4px", sm: "8px", md: "12px", lg: "18px", xl: "32px" },
  fontFamily: "var(--font)",
  fontFamilyMonospace: "var(--mono)",
  headings: { fontFamily: "var(--font)", fontWeight: "650" },
  respectReducedMotion: true,
  cursorType: "pointer",
  focusRing: "auto",
  components: {
    // The lock of Mantine's dialogs writes a <style> element; Shell.module.css does it without one.
    // The head of a dialog is none of the page, which it would be as `<header>`.
    Modal: {
      defaultProps: {
        lockScroll: false,
        centered: true,
        overlayProps: { backgroundOpacity: 0.65, blur: 3 },
        attributes: { header: { role: "presentation" } },
      },
    },
    Drawer: { defaultProps: { lockScroll: false, overlayProps: { backgroundOpacity: 0.65 } } },
    ModalRoot: { defaultProps: { lockScroll: false } },
    DrawerRoot: { defaultProps: { lockScroll: false } },
    Button: { defaultProps: { size: "md" } },
    TextInput: { defaultProps: { size: "md" } },
    PasswordInput: { defaultProps: { size: "md" } },
    NumberInput: { defaultProps: { size: "md" } },
    Textarea: { defaultProps: { size: "md" } },
    Select: { defaultProps: { size: "md", comboboxProps: { shadow: "md" } } },
  },
});

/** Mantine's meanings in our words, the same for both schemes: the tokens themselves change with the scheme. */
const meanings = {
  "--mantine-color-body": "var(--ground)",
  "--mantine-color-text": "var(--text)",
  "--mantine-color-bright": "var(--text)",
  "--mantine-color-dimmed": "var(--muted)",
  "--mantine-color-placeholder": "var(--muted)",
  "--mantine-color-anchor": "var(--royal)",
  "--mantine-color-error": "var(--bad)",
  "--mantine-color-success": "var(--ok)",
  "--mantine-color-default": "var(--raised)",
  "--mantine-color-default-hover": "var(--hairline)",
  "--mantine-color-default-color": "var(--text)",
  "--mantine-color-default-border": "var(--control)",
  "--mantine-color-disabled": "var(--raised)",
  "--mantine-color-disabled-color": "var(--muted)",
  "--mantine-color-disabled-border": "var(--hairline)",
  "--mantine-primary-color-filled": "var(--gold-fill)",
  "--mantine-primary-color-filled-hover": "var(--gold-light)",
  "--mantine-primary-color-contrast": "var(--ink)",
  "--mantine-primary-color-light-color": "var(--gold)",
  "--mantine-color-gold-filled": "var(--gold-fill)",
  "--mantine-color-gold-filled-hover": "var(--gold-light)",
  "--mantine-color-gold-light-color": "var(--gold)",
  "--mantine-color-gold-text": "var(--gold)",
  "--mantine-color-royal-light-color": "var(--royal)",
  "--mantine-color-royal-text": "var(--royal)",
  "--mantine-color-red-text": "var(--bad)",
  "--mantine-color-green-text": "var(--ok)",
  "--mantine-color-yellow-text": "var(--warn)",
  "--mantine-color-red-light-color": "var(--bad)",
  "--mantine-color-green-light-color": "var(--ok)",
  "--mantine-color-yellow-light-color": "var(--warn)",
};

export const resolver: CSSVariablesResolver = () => ({ variables: {}, dark: meanings, light: meanings });
