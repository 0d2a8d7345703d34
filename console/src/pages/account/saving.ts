import { useMutation, useQueryClient } from "@tanstack/react-query";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import type { components } from "../../client/ledger.d.ts";
import { keys, type Profile } from "../../queries.ts";

/** Changes the profile; what comes back is what everybody sees from then on. */
export function useProfileChange() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (body: components["schemas"]["ProfileChange"]) => answer(ledger.PATCH("/api/core/profile/", { body })),
    onSuccess: (profile) => queries.setQueryData<Profile>(keys.profile, profile),
  });
}
