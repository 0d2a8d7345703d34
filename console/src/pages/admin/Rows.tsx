import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { type PageOf, rowsOf } from "./queries.ts";

interface Props<Row> {
  query: UseInfiniteQueryResult<InfiniteData<PageOf<Row>>>;
  /** What could not be read, when it could not. */
  what: string;
  /** Stands there where there is none. */
  empty: ReactNode;
  children: (rows: Row[]) => ReactNode;
}

/** A list by pages: what was read so far, and the way to more. */
export function Rows<Row>({ query, what, empty, children }: Props<Row>) {
  return (
    <>
      <Loaded query={query} what={what} waits={<Skeleton height="20rem" />}>
        {(data) => {
          const rows = rowsOf(data);
          return rows.length === 0 ? empty : children(rows);
        }}
      </Loaded>
      <More query={query} />
    </>
  );
}
