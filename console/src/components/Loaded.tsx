import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Failure } from "./Failure.tsx";
import { Skeleton } from "./Skeleton.tsx";

interface Props<Data> {
  /** What `useQuery` or `useInfiniteQuery` answered. */
  query: Pick<UseQueryResult<Data>, "data" | "error" | "refetch">;
  /** What could not be read, when it could not: `The wallet cannot be read now`. */
  what: string;
  /** Stands there until it comes, in its size. */
  waits?: ReactNode;
  children: (data: Data) => ReactNode;
}

/** What a query answers: a skeleton before, an error in place when it fails; what was read once stays while it is asked again. */
export function Loaded<Data>({ query, what, waits = <Skeleton height="8rem" />, children }: Props<Data>) {
  const failure = query.error ? <Failure problem={query.error} what={what} onRetry={() => void query.refetch()} /> : null;
  if (query.data === undefined) return failure ?? <div aria-busy="true">{waits}</div>;
  return (
    <>
      {failure}
      {children(query.data)}
    </>
  );
}
