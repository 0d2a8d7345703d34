import { renderToStaticMarkup } from "react-dom/server";
import { expect, it } from "vitest";
import { Markdown } from "./Markdown.tsx";

const shown = (text: string) => renderToStaticMarkup(<Markdown text={text} />);

it("shows what Markdown means", () => {
  const html = shown("# Title\n\n**bold** `code`\n\n- one\n- [x] two\n\n| a | b |\n|--:|---|\n| 1 | 2 |\n\n```python\nprint(1 < 2)\n```\n");
  for (const part of [
    "<strong>bold</strong>",
    "<code>code</code>",
    "<li",
    "☑",
    '<td data-align="right">1</td>',
    "print(1 &lt; 2)",
    "Copy python code",
  ]) {
    expect(html).toContain(part);
  }
  expect(html).not.toContain("<h1"); // the page's outline is the page's
});

it.each([
  "<script>alert(1)</script>",
  '<img src=x onerror="alert(1)">',
  'inline <b onclick="alert(1)">html</b>',
  "[words](javascript:alert(1))",
  "![picture](https://tracker.example/pixel.png)",
  "<svg/onload=alert(1)>",
  '<a href="javascript:alert(1)">x</a>',
  "<iframe src=//evil.example>",
  "&lt;script&gt;alert(1)&lt;/script&gt;",
])("makes no element of %s but text and links to the web", (text) => {
  const html = shown(text);
  expect(html).not.toMatch(/<(script|img|svg|iframe|b)\b|javascript:alert\(1\)"|onerror="|onclick="/);
});

it("names who may be followed, and says nothing of where from", () => {
  expect(shown("[words](https://example.org)")).toContain('href="https://example.org/" target="_blank" rel="noopener noreferrer nofollow"');
});

it("shows an answer that is not finished yet", () => {
  expect(shown("Some **bold and\n\n```js\nlet a")).toContain("let a");
});
