const ENDING = 6;

/** The end of an id, enough to tell it from its neighbors. */
export function shortId(id: string): string {
  return `…${id.slice(-ENDING)}`;
}
