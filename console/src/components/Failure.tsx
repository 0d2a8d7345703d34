import { asProblem } from "../client/problem.ts";
import { Button } from "./Button.tsx";
import { Icon } from "./Icon.tsx";
import { Notice } from "./Notice.tsx";

interface Props {
  /** Whatever was thrown. */
  problem: unknown;
  /** What could not be done: `The wallet could not be read`. */
  what?: string;
  onRetry?: () => void;
}

/** An error in its place, with what to do about it. */
export function Failure({ problem, what, onRetry }: Props) {
  const { title, message, hint } = asProblem(problem);
  const retry = onRetry ? (
    <Button icon={<Icon name="refresh" size={18} />} onClick={onRetry}>
      Try again
    </Button>
  ) : null;
  return (
    <Notice kind="bad" title={what ?? title} action={retry}>
      {message}
      {hint ? ` ${hint}` : ""}
    </Notice>
  );
}
