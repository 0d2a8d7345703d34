import { useMutation } from "@tanstack/react-query";
import { answer } from "../../client/answer.ts";
import { serve } from "../../client/api.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Command } from "../../components/Command.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { isOpen } from "../../live/news.ts";
import type { Job } from "../../queries.ts";
import { save } from "../../save.ts";
import style from "./Receipt.module.css";

/** The signed receipt of a job that has ended, and how to check it without believing anybody. */
export function Receipt({ job }: { job: Job }) {
  const file = `${job.id}.jwt`;
  const fetched = useMutation({
    mutationFn: () => answer(serve.GET("/api/computing/jobs/{id}/receipt/", { params: { path: { id: job.id } } })),
    onSuccess: ({ receipt }) => save(file, receipt, "application/jwt"),
  });
  if (isOpen(job)) return null;
  return (
    <Card title="Receipt">
      <div className={style.receipt}>
        <p>What it was and what it cost, signed by the platform, and by the machine that served it where that is somebody’s own.</p>
        <Button icon={<Icon name="download" size={18} />} busy={fetched.isPending} onClick={() => fetched.mutate()}>
          Download receipt
        </Button>
        {fetched.error ? <Failure problem={fetched.error} what="There is no receipt yet" onRetry={() => fetched.mutate()} /> : null}
        <details>
          <summary>How to verify it</summary>
          <p>With the platform’s public keys, which you can keep beside it:</p>
          <Command text={`curl -o keys.json ${window.location.origin}/.well-known/jwks.json`} what="command that fetches the keys" />
          <Command text={`gfe jobs receipt ${job.id} --verify --file ${file} --jwks keys.json`} what="command that verifies the receipt" />
        </details>
      </div>
    </Card>
  );
}
