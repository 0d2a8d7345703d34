import { type UseMutationResult, useMutation, useQueryClient } from "@tanstack/react-query";
import { answer, done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Problem } from "../../client/problem.ts";
import { keys } from "../../queries.ts";
import { type OwnNode, TOKENS, tokenOf } from "./queries.ts";

/** What an owner does with a machine. Everything that shows it is asked again afterwards. */

export interface Change {
  name?: string;
  state?: "active" | "paused";
}

export type Changing = UseMutationResult<OwnNode, Error, Change>;

export function useChange(id: string): Changing {
  const again = useAskAgain();
  return useMutation({
    mutationFn: (body: Change) => answer(ledger.PATCH("/api/core/nodes/{node_id}/", { params: { path: { node_id: id } }, body })),
    onSuccess: again,
  });
}

/** `onGone` is called also when what asked for it is not shown any more: the machine may leave the page before the answer comes. */
export function useDeregister(id: string, onGone: () => void) {
  const again = useAskAgain();
  return useMutation({
    mutationFn: () => done(ledger.DELETE("/api/core/nodes/{node_id}/", { params: { path: { node_id: id } } })),
    onSuccess: () => {
      onGone();
      return again();
    },
  });
}

/** Revoke a code, or the token of the agent that used it, by the id of either. */
export function useRevoke() {
  const again = useAskAgain();
  return useMutation({ mutationFn: revoke, onSuccess: again });
}

/** Revoke the token that a machine's agent uses now. */
export function useRevokeOf(node: string) {
  const again = useAskAgain();
  return useMutation({
    mutationFn: async () => {
      const token = await tokenOf(node);
      if (token === undefined) throw new Problem(404, { title: "Nothing to revoke", detail: "This machine has no agent token any more." });
      await revoke(token.id);
    },
    onSuccess: again,
  });
}

const revoke = (id: string) => done(ledger.POST("/api/core/agent-token/{token_id}/revoke/", { params: { path: { token_id: id } } }));

function useAskAgain(): () => Promise<unknown> {
  const queries = useQueryClient();
  return () => Promise.all([keys.nodes, keys.providerStats, TOKENS].map((queryKey) => queries.invalidateQueries({ queryKey })));
}
