import { useQuery } from "@tanstack/react-query";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Button } from "../../../components/Button.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Icon } from "../../../components/Icon.tsx";
import { Notice } from "../../../components/Notice.tsx";
import { Time } from "../../../components/Time.tsx";
import { keys } from "../queries.ts";

/** Asked for by hand: it reads the whole log. */
export function useChainCheck() {
  return useQuery({
    queryKey: keys.chain,
    queryFn: () => answer(ledger.GET("/api/admin/audit-log/", { params: { query: { limit: 1, verify: true } } })),
    enabled: false,
    retry: false,
  });
}

type Check = ReturnType<typeof useChainCheck>;

export function ChainButton({ check }: { check: Check }) {
  return (
    <Button icon={<Icon name="shield" size={18} />} busy={check.isFetching} onClick={() => void check.refetch()}>
      Check the chain
    </Button>
  );
}

/** Whether somebody changed the log after it was sealed. */
export function ChainNews({ check }: { check: Check }) {
  if (check.error) return <Failure problem={check.error} what="The chain cannot be checked now" onRetry={() => void check.refetch()} />;
  if (!check.data) return null;
  const broken = check.data.broken_at;
  const at = <Time at={new Date(check.dataUpdatedAt).toISOString()} />;
  return broken === null || broken === undefined ? (
    <Notice kind="ok" title="The chain holds">
      Every sealed block fits its hash. Checked {at}; lines of the last minute are not sealed yet.
    </Notice>
  ) : (
    <Notice kind="bad" title="The chain is broken">
      The block that ends with line {broken} does not fit its hash: lines were changed after they were written. Checked {at}.
    </Notice>
  );
}
