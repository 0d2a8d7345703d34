import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";
import { answer } from "../client/answer.ts";
import { serve } from "../client/api.ts";
import { Once } from "../client/once.ts";
import { type JobRow, keys } from "../queries.ts";
import { desk } from "./desk.ts";
import type { JobAsked } from "./request.ts";

const ROW_PROMPT = 80; // characters of a prompt that lists show

/** Submits a job. */
export function useSubmit() {
  const queries = useQueryClient();
  const once = useRef(new Once());
  return useMutation({
    mutationFn: async (asked: JobAsked) => {
      const submittedAt = performance.now();
      const submitted = await once.current.send(asked, (header) =>
        answer(serve.POST("/api/computing/submit-job/", { body: asked, params: { header } })),
      );
      return { ...submitted, asked, submittedAt };
    },
    onSuccess: ({ job_id: id, held, asked, submittedAt }) => {
      const model = asked.model ?? "";
      desk.begun({ id, model, prompt: asked.prompt, held, submittedAt });
      queries.setQueryData<JobRow[]>(keys.openJobs, (rows) => rows && [rowOf(id, model, asked.prompt), ...rows]);
      void queries.invalidateQueries({ queryKey: keys.wallet });
      void queries.invalidateQueries({ queryKey: keys.profile });
    },
  });
}

/** The job as lists show it, until the platform tells it. */
function rowOf(id: string, model: string, prompt: string): JobRow {
  const created_at = new Date().toISOString();
  return { id, model, prompt: prompt.slice(0, ROW_PROMPT), status: "PENDING", cost: null, created_at, completed_at: null };
}
