import { useMutation, useQueryClient } from "@tanstack/react-query";
import { answer } from "../client/answer.ts";
import { serve } from "../client/api.ts";
import { Problem } from "../client/problem.ts";
import { keys } from "../queries.ts";

/** Cancels a job. That it has ended meanwhile is no problem: its end is on its way here. */
export function useStop(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async () => {
      try {
        await answer(serve.POST("/api/computing/jobs/{id}/cancel/", { params: { path: { id } } }));
      } catch (thrown) {
        if (!(thrown instanceof Problem && thrown.code === "job_ended")) throw thrown;
      }
    },
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.job(id) }),
  });
}
