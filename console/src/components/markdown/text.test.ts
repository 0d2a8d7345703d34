import { expect, it } from "vitest";
import { decoded, safeHref } from "./text.ts";

it.each([
  ["a &amp; b", "a & b"],
  ["&lt;b&gt;", "<b>"],
  ["&#65;&#x42;", "AB"],
  ["&unknown; &", "&unknown; &"],
  ["&#0; &#9999999;", "&#0; &#9999999;"],
])("reads character references: %s", (text, read) => {
  expect(decoded(text)).toBe(read);
});

it.each(["https://example.org/a?b=c", "http://example.org/", "mailto:ada@example.org"])("follows %s", (href) => {
  expect(safeHref(href)).toBe(href);
});

it.each([
  "javascript:alert(1)",
  "JAVASCRIPT:alert(1)",
  "java&#115;cript:alert(1)",
  "data:text/html,x",
  "/dashboard",
  "file:///etc/passwd",
  "",
])("does not follow %s", (href) => {
  expect(safeHref(href)).toBeUndefined();
});
