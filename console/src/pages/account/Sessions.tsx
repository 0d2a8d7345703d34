import { useInfiniteQuery, useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Confirm } from "../../components/Confirm.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { keys } from "../../queries.ts";
import { session } from "../../session/session.ts";
import { programName } from "./programs.ts";
import { account, type SessionRow } from "./queries.ts";
import style from "./Sessions.module.css";

/** Where one is signed in; each can be signed out, or all of them. */
export function Sessions() {
  const sessions = useInfiniteQuery(account.sessions);
  const [asked, ask] = useState<"others" | "all">();
  const queries = useQueryClient();
  const again = () => queries.invalidateQueries({ queryKey: keys.sessions });
  const end = useMutation({
    mutationFn: async (row: SessionRow) => {
      if (row.is_current) return session.signOut();
      await done(ledger.DELETE("/api/core/sessions/{session_id}/", { params: { path: { session_id: row.id } } }));
    },
    onSettled: again,
  });
  const endMany = useMutation({
    mutationFn: async (which: "others" | "all") => {
      await done(ledger.POST("/api/core/sessions/end-others/"));
      if (which === "all") await session.signOut();
    },
    onSuccess: () => {
      ask(undefined);
      void again();
    },
  });
  const rows = sessions.data?.pages.flatMap((page) => page.results) ?? [];
  const open = (which: "others" | "all") => {
    endMany.reset();
    ask(which);
  };
  return (
    <Card
      title="Where you are signed in"
      aside={
        <div className={style.buttons}>
          <Button disabled={rows.length < 2} onClick={() => open("others")}>
            Sign out everywhere else
          </Button>
          <Button icon={<Icon name="signout" size={18} />} onClick={() => open("all")}>
            Sign out everywhere
          </Button>
        </div>
      }
    >
      <Loaded query={sessions} what="Your sign-ins cannot be read now" waits={<Skeleton height="8rem" />}>
        {() => (
          <Table
            caption="Where you are signed in, the newest first"
            rows={rows}
            keyOf={(row) => row.id}
            columns={[
              {
                name: "Program",
                cell: (row) => (
                  <span className={style.program} title={row.program ?? undefined}>
                    {programName(row.program)}
                    {row.is_current ? <Status tone="ok">This one</Status> : null}
                  </span>
                ),
              },
              { name: "From", cell: (row) => row.address ?? "unknown" },
              { name: "Since", cell: (row) => <Time at={row.created_at} /> },
              { name: "Last renewed", cell: (row) => <Time at={row.renewed_at} /> },
              {
                name: "Sign out",
                isFigure: true,
                cell: (row) => (
                  <Button
                    look="quiet"
                    aria-label={row.is_current ? "Sign out here" : `Sign out ${programName(row.program)}`}
                    busy={end.isPending && end.variables?.id === row.id}
                    onClick={() => end.mutate(row)}
                  >
                    Sign out
                  </Button>
                ),
              },
            ]}
          />
        )}
      </Loaded>
      {end.error ? (
        <Failure problem={end.error} what="That sign-in was not ended" onRetry={() => end.variables && end.mutate(end.variables)} />
      ) : null}
      <More query={sessions} />
      <Confirm
        isOpen={asked !== undefined}
        onClose={() => ask(undefined)}
        title={asked === "all" ? "Sign out everywhere?" : "Sign out everywhere else?"}
        action="Sign out"
        busy={endMany.isPending}
        problem={endMany.error}
        onConfirm={() => asked && endMany.mutate(asked)}
      >
        <p>
          {asked === "all"
            ? "All browsers and programs, this one too, have to sign in again."
            : "All browsers and programs but this one have to sign in again."}
        </p>
        <p>Jobs that run go on. API keys and machines stay signed in: revoke those for themselves.</p>
      </Confirm>
    </Card>
  );
}
