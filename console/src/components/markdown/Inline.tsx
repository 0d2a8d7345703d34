import type { Token } from "marked";
import type { ReactNode } from "react";
import { decoded, safeHref } from "./text.ts";

/** What stands in a line: words, emphasis, code, links. */
export function Inline({ tokens = [] }: { tokens: Token[] | undefined }): ReactNode {
  // biome-ignore lint/suspicious/noArrayIndexKey: words are appended, never moved
  return tokens.map((token, at) => <One key={at} token={token} />);
}

function One({ token }: { token: Token }): ReactNode {
  switch (token.type) {
    case "strong":
      return (
        <strong>
          <Inline tokens={token.tokens} />
        </strong>
      );
    case "em":
      return (
        <em>
          <Inline tokens={token.tokens} />
        </em>
      );
    case "del":
      return (
        <del>
          <Inline tokens={token.tokens} />
        </del>
      );
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "link":
      return <Away href={token.href} words={<Inline tokens={token.tokens} />} />;
    case "image":
      return <Away href={token.href} words={`${token.text || "image"} (image)`} />; // never loaded: its host would learn who reads
    case "text":
      return token.tokens ? <Inline tokens={token.tokens} /> : decoded(token.text);
    case "escape":
      return token.text;
    default:
      return decoded(token.raw);
  }
}

/** A link to the web; to anywhere else, such as `javascript:`, just its words. */
function Away({ href, words }: { href: string; words: ReactNode }) {
  const safe = safeHref(href);
  if (safe === undefined) return words;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow">
      {words}
    </a>
  );
}
