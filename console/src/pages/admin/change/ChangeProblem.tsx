import type { Problem } from "../../../client/problem.ts";
import { Failure } from "../../../components/Failure.tsx";
import { Notice } from "../../../components/Notice.tsx";
import { LogEntries } from "./LogEntries.tsx";

interface Props {
  problem: Problem;
  /** Fields that show themselves what is wrong with them. */
  atFields: readonly string[];
  /** Nobody knows whether it took effect: the request's id, under which the audit log may tell. */
  unknown: string | undefined;
}

/** Why a change was not made, as far as no field says it. */
export function ChangeProblem({ problem, atFields, unknown }: Props) {
  if (problem.code === "not_fresh") {
    return <Notice title="Your second factor, please">What moves money out wants it anew every few minutes.</Notice>;
  }
  const wrong = Object.keys(problem.fields);
  if (wrong.length > 0 && wrong.every((name) => atFields.includes(name))) return null;
  return (
    <>
      <Failure problem={problem} />
      {unknown ? (
        <>
          <Notice kind="warn" title="Nobody knows whether that took effect">
            Look below and in the list before you begin anew: done twice, it counts twice.
          </Notice>
          <LogEntries requestId={unknown} />
        </>
      ) : null}
    </>
  );
}
