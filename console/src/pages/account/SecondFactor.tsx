import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Status } from "../../components/Status.tsx";
import { keys, type Profile } from "../../queries.ts";
import style from "./Form.module.css";
import { SetUpSecondFactor } from "./SetUpSecondFactor.tsx";
import { SwitchOffSecondFactor } from "./SwitchOffSecondFactor.tsx";

/** The second factor: off, being set up, or on. */
export function SecondFactor({ profile }: { profile: Profile }) {
  const [said, say] = useState<"on" | "off">();
  const [isLeaving, leave] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  const queries = useQueryClient();
  const begin = useMutation({ mutationFn: () => answer(ledger.POST("/api/core/totp/")) });
  const turned = (to: "on" | "off") => {
    begin.reset();
    leave(false);
    say(to);
    queries.setQueryData<Profile>(keys.profile, (known) => known && { ...known, has_totp: to === "on" });
    void queries.invalidateQueries({ queryKey: keys.profile });
    place.current?.focus(); // what was pressed is gone
  };
  return (
    <Card title="Second factor" aside={profile.has_totp ? <Status tone="ok">On</Status> : <Status tone="none">Off</Status>}>
      <div ref={place} tabIndex={-1} className={style.form}>
        {said ? <Notice kind="ok" title={said === "on" ? "The second factor is on" : "The second factor is off"} /> : null}
        {begin.data ? (
          <SetUpSecondFactor begun={begin.data} onDone={() => turned("on")} onCancel={begin.reset} />
        ) : profile.has_totp ? (
          <>
            <p className={style.text}>
              Signing in and withdrawing ask for six digits of your authenticator. Keep its secret somewhere safe: without it nobody can let
              you in.
            </p>
            <div className={style.row}>
              <Button onClick={() => leave(true)}>Switch off</Button>
            </div>
          </>
        ) : (
          <>
            <p className={style.text}>
              Signing in, and withdrawing, then also ask for six digits that an authenticator on your phone shows. Whoever learns your
              password cannot do anything with it alone.
            </p>
            {begin.error ? <Failure problem={begin.error} what="That could not be begun" /> : null}
            <div className={style.row}>
              <Button
                busy={begin.isPending}
                onClick={() => {
                  say(undefined);
                  begin.mutate();
                }}
              >
                Set up
              </Button>
            </div>
          </>
        )}
        {isLeaving ? <SwitchOffSecondFactor onClose={() => leave(false)} onDone={() => turned("off")} /> : null}
      </div>
    </Card>
  );
}
