import { convertCssVariables, DEFAULT_THEME, defaultCssVariablesResolver, mergeMantineTheme } from "@mantine/core";
import { resolver, theme } from "./mantine.ts";

/** The text of mantine.css: the variables that MantineProvider would otherwise put into a `<style>` element. Not part of the page. */
export function variables(): string {
  const merged = mergeMantineTheme(DEFAULT_THEME, theme);
  const [usual, own] = [defaultCssVariablesResolver(merged), resolver(merged)];
  const all = {
    variables: { ...usual.variables, ...own.variables },
    dark: { ...usual.dark, ...own.dark },
    light: { ...usual.light, ...own.light },
  };
  const css = convertCssVariables(all, ":root");
  const lines = css
    .replaceAll("}", "}\n")
    .replaceAll("{", " {\n")
    .replaceAll(/;(?=\S)/g, ";\n");
  return `/* Made by \`npm run generate\` from mantine.ts; do not edit. */\n${lines}`;
}
