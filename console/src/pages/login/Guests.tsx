import { useState } from "react";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Failure } from "../../components/Failure.tsx";
import * as market from "../../market/market.ts";
import { usePolled } from "../../market/polled.ts";
import { journeyTo } from "../../session/remote.ts";
import style from "./Form.module.css";
import { providerName } from "./journey.ts";

/** Signing in through another service: one button per service that is configured here, none where none is. */
export function Guests({ next }: { next: string }) {
  const { data: config } = usePolled(market.config);
  const [busy, setBusy] = useState<string>();
  const [problem, setProblem] = useState<unknown>();
  const providers = config?.sign_in_with ?? [];
  if (providers.length === 0) return null;
  const go = async (provider: string) => {
    setBusy(provider);
    setProblem(undefined);
    try {
      window.location.assign(await journeyTo(provider, next));
    } catch (thrown) {
      setProblem(asProblem(thrown));
      setBusy(undefined);
    }
  };
  return (
    <div className={style.guests}>
      <p className={style.or}>or</p>
      {problem ? <Failure problem={problem} /> : null}
      {providers.map((provider) => (
        <Button key={provider} wide busy={busy === provider} onClick={() => void go(provider)}>
          Continue with {providerName(provider)}
        </Button>
      ))}
    </div>
  );
}
