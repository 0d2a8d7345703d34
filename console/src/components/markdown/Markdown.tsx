import { lexer } from "marked";
import { memo, useDeferredValue } from "react";
import { Block } from "./Block.tsx";
import style from "./Markdown.module.css";

/**
 * A text in Markdown, shown without trusting it: marked reads it, and elements are made of what it found by an allow-list. No HTML is ever
 * parsed, so there is nothing to sanitize: tags in the text are shown as they stand, images are links, links lead to the web alone.
 */
export function Markdown({ text }: { text: string }) {
  const calm = useDeferredValue(text); // what is typed and pressed comes before what streams in
  return (
    <div className={style.markdown}>
      {lexer(calm).map((token, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: blocks are appended, never moved
        <Settled key={at} raw={token.raw} token={token} />
      ))}
    </div>
  );
}

/** While an answer grows, only its last block changes. */
const Settled = memo(Block, (before, after) => before.raw === after.raw && before.token.type === after.token.type);
