import { useMutation, useQueryClient } from "@tanstack/react-query";
import { done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Confirm } from "../../components/Confirm.tsx";
import { keys } from "../../queries.ts";
import type { Key } from "../account/queries.ts";

/** Asks before a key stops working. */
export function RevokeKey({ of: key, onClose }: { of: Key; onClose: () => void }) {
  const queries = useQueryClient();
  const revoke = useMutation({
    mutationFn: () => done(ledger.POST("/api/core/keys/{key_id}/revoke/", { params: { path: { key_id: key.id } } })),
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: keys.apiKeys });
      onClose();
    },
  });
  return (
    <Confirm
      isOpen
      isGrave
      onClose={onClose}
      title={`Revoke ${key.name}?`}
      action="Revoke it"
      busy={revoke.isPending}
      problem={revoke.error}
      onConfirm={() => revoke.mutate()}
    >
      <p>Programs that use it are refused within seconds. It never works again.</p>
      <p>Jobs that it began go on.</p>
    </Confirm>
  );
}
