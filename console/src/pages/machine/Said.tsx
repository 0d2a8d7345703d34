/** A sentence of the platform; what stands between backticks in it is code. */
export function Said({ text }: { text: string }) {
  const parts = text.split("`").map((part, at) => ({ part, at }));
  return <span>{parts.map(({ part, at }) => (at % 2 === 1 ? <code key={at}>{part}</code> : part))}</span>;
}
