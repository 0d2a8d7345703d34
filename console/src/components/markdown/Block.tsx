import type { Token, Tokens } from "marked";
import { CodeBlock } from "./CodeBlock.tsx";
import { Inline } from "./Inline.tsx";
import style from "./Markdown.module.css";
import { decoded } from "./text.ts";

interface Props {
  token: Token;
  /** The text it was made of. */
  raw?: string;
}

/** A paragraph, a list, a table … of a text. Headings are not headings of the page, whose outline they would break. */
export function Block({ token }: Props) {
  switch (token.type) {
    case "heading":
      return (
        <p className={style.heading} data-depth={token.depth}>
          <Inline tokens={token.tokens} />
        </p>
      );
    case "code":
      return <CodeBlock text={token.text} language={token.lang} />;
    case "blockquote":
      return (
        <blockquote>
          <Blocks tokens={token.tokens} />
        </blockquote>
      );
    case "list":
      return <List list={token as Tokens.List} />;
    case "table":
      return <TableBlock table={token as Tokens.Table} />;
    case "hr":
      return <hr />;
    case "space":
    case "def":
    case "checkbox":
      return null;
    case "paragraph":
      return (
        <p>
          <Inline tokens={token.tokens} />
        </p>
      );
    case "text":
      return <Inline tokens={token.tokens ?? [token]} />;
    default:
      return <p>{decoded(token.raw)}</p>;
  }
}

function Blocks({ tokens = [] }: { tokens: Token[] | undefined }) {
  // biome-ignore lint/suspicious/noArrayIndexKey: blocks are appended, never moved
  return tokens.map((token, at) => <Block key={at} token={token} />);
}

function List({ list }: { list: Tokens.List }) {
  const items = list.items.map((item, at) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: items are appended, never moved
    <li key={at} className={item.task ? style.task : undefined}>
      {item.task ? <span>{item.checked ? "☑ " : "☐ "}</span> : null}
      <Blocks tokens={item.tokens} />
    </li>
  ));
  return list.ordered ? <ol start={list.start === "" ? 1 : list.start}>{items}</ol> : <ul>{items}</ul>;
}

function TableBlock({ table }: { table: Tokens.Table }) {
  const cells = (row: Tokens.TableCell[], Cell: "th" | "td") =>
    row.map((cell, at) => (
      // biome-ignore lint/suspicious/noArrayIndexKey: columns stay where they are
      <Cell key={at} data-align={cell.align ?? undefined} scope={Cell === "th" ? "col" : undefined}>
        <Inline tokens={cell.tokens} />
      </Cell>
    ));
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard
    <div className={style.scroll} tabIndex={0} role="group" aria-label="Table">
      <table>
        <thead>
          <tr>{cells(table.header, "th")}</tr>
        </thead>
        <tbody>
          {table.rows.map((row, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows are appended, never moved
            <tr key={at}>{cells(row, "td")}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
