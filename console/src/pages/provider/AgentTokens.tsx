import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Confirm } from "../../components/Confirm.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import style from "./AgentTokens.module.css";
import { useRevoke } from "./changing.ts";
import { type AgentToken, provider } from "./queries.ts";
import { tokenState } from "./tokens.ts";

/** Every code that was made, and the agent that used it. */
export function AgentTokens() {
  const tokens = useInfiniteQuery(provider.tokens);
  const revoke = useRevoke();
  const [asked, ask] = useState<AgentToken>();
  const rows = tokens.data?.pages.flatMap((page) => page.results);
  if (rows?.length === 0) return null; // who has no machine yet need not know of them
  const name = asked ? labelOf(asked) : "";
  return (
    <Card title="Agent tokens">
      <Loaded query={tokens} what="The agent tokens cannot be read now" waits={<Skeleton height="6rem" />}>
        {() => (
          <>
            <p className={style.lead}>
              Each code becomes the token of the one agent that used it. Revoke one, and its machine is cut off within seconds.
            </p>
            <Table
              caption="Agent tokens"
              rows={rows ?? []}
              keyOf={(token) => token.id}
              columns={[
                { name: "Label", cell: (token) => <Label token={token} /> },
                { name: "State", cell: (token) => <State token={token} /> },
                { name: "Begins with", cell: (token) => <code className={style.prefix}>{token.token_prefix}…</code> },
                { name: "Made", cell: (token) => <Time at={token.created_at} /> },
                { name: "Last used", cell: (token) => (token.last_used ? <Time at={token.last_used} /> : "never") },
                {
                  name: "Revoke",
                  isFigure: true,
                  cell: (token) =>
                    tokenState(token, Date.now()).isLive ? (
                      <Button
                        look="quiet"
                        aria-label={`Revoke ${labelOf(token)}`}
                        onClick={() => {
                          revoke.reset();
                          ask(token);
                        }}
                      >
                        Revoke
                      </Button>
                    ) : (
                      "–"
                    ),
                },
              ]}
            />
            <More query={tokens} />
          </>
        )}
      </Loaded>
      <Confirm
        isOpen={asked !== undefined}
        onClose={() => ask(undefined)}
        isGrave
        title={`Revoke ${name}?`}
        action="Revoke"
        busy={revoke.isPending}
        problem={revoke.error}
        onConfirm={() => asked && revoke.mutate(asked.id, { onSuccess: () => ask(undefined) })}
      >
        {asked?.last_used ? (
          <p>The machine that uses this token is cut off within seconds, and its agent ends. A new code brings it back.</p>
        ) : (
          <p>Nobody used this code yet. Nobody can any more.</p>
        )}
      </Confirm>
    </Card>
  );
}

const labelOf = (token: AgentToken): string => token.label || `${token.token_prefix}…`;

function Label({ token }: { token: AgentToken }) {
  if (!token.node_id) return labelOf(token);
  return (
    <Link to="/dashboard/provider/$id" params={{ id: token.node_id }}>
      {labelOf(token)}
    </Link>
  );
}

function State({ token }: { token: AgentToken }) {
  const { tone, word } = tokenState(token, Date.now());
  return <Status tone={tone}>{word}</Status>;
}
