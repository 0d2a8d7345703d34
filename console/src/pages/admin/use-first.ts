import { useState } from "react";

/** The first few of a list that the API gives as a whole, and then more of it. */
export function useFirst<Row>(rows: readonly Row[], few: number): { shown: readonly Row[]; left: number; more: () => void } {
  const [most, setMost] = useState(few);
  return { shown: rows.slice(0, most), left: Math.max(0, rows.length - most), more: () => setMost(most + few) };
}
