import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { answer, done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Confirm } from "../../components/Confirm.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status } from "../../components/Status.tsx";
import { Time } from "../../components/Time.tsx";
import { queries } from "../../queries.ts";
import { providerName } from "../login/journey.ts";
import style from "./Connected.module.css";
import { account } from "./queries.ts";

const BACK = "/dashboard/account/security";

/** Other services that one signs in with. */
export function Connected() {
  const config = useQuery(queries.config);
  const links = useQuery(account.links);
  const [asked, ask] = useState<string>();
  const queryClient = useQueryClient();
  const connect = useMutation({
    mutationFn: (provider: string) =>
      answer(ledger.POST("/api/core/oauth/{provider}/link/", { params: { path: { provider } }, body: { return_to: BACK } })),
    onSuccess: ({ url }) => window.location.assign(url),
  });
  const cut = useMutation({
    mutationFn: (provider: string) => done(ledger.DELETE("/api/core/oauth/{provider}/", { params: { path: { provider } } })),
    onSuccess: () => {
      ask(undefined);
      void queryClient.invalidateQueries({ queryKey: account.links.queryKey });
    },
  });
  return (
    <Card title="Connected sign-ins">
      <Loaded query={links} what="Connected sign-ins cannot be read now" waits={<Skeleton height="3rem" />}>
        {({ results }) => {
          const offered = [...new Set([...(config.data?.sign_in_with ?? []), ...results.map((link) => link.provider)])];
          if (offered.length === 0) return <p className={style.none}>No other service is set up here. You sign in with your password.</p>;
          return (
            <ul className={style.links}>
              {offered.map((provider) => {
                const link = results.find((one) => one.provider === provider);
                return (
                  <li key={provider}>
                    <div className={style.name}>
                      <strong>{providerName(provider)}</strong>
                      <small>
                        {link ? (
                          <>
                            {link.email ? `${link.email}, since ` : "Since "}
                            <Time at={link.created_at} />
                          </>
                        ) : (
                          "Sign in without your password"
                        )}
                      </small>
                    </div>
                    <Status tone={link ? "ok" : "none"}>{link ? "Connected" : "Not connected"}</Status>
                    {link ? (
                      <Button
                        aria-label={`Disconnect ${providerName(provider)}`}
                        onClick={() => {
                          cut.reset();
                          ask(provider);
                        }}
                      >
                        Disconnect
                      </Button>
                    ) : (
                      <Button
                        aria-label={`Connect ${providerName(provider)}`}
                        busy={connect.variables === provider && (connect.isPending || connect.isSuccess)}
                        onClick={() => connect.mutate(provider)}
                      >
                        Connect
                      </Button>
                    )}
                  </li>
                );
              })}
            </ul>
          );
        }}
      </Loaded>
      {connect.error ? <Failure problem={connect.error} what="The service could not be asked" /> : null}
      <Confirm
        isOpen={asked !== undefined}
        onClose={() => ask(undefined)}
        title={`Disconnect ${providerName(asked ?? "")}?`}
        action="Disconnect"
        busy={cut.isPending}
        problem={cut.error}
        onConfirm={() => asked && cut.mutate(asked)}
      >
        <p>You then sign in here without it. You can connect it again.</p>
      </Confirm>
    </Card>
  );
}
