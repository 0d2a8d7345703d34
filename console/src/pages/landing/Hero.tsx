import { ButtonAnchor, ButtonLink } from "../../components/Button.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import * as market from "../../market/market.ts";
import { usePolled } from "../../market/polled.ts";
import { isZero } from "../../money.ts";
import { useSession } from "../../session/use-session.ts";
import { Example } from "./Example.tsx";
import style from "./Hero.module.css";

/** The first thing to see: what it is, where to begin, and that one's own tools will do. */
export function Hero() {
  const { status } = useSession();
  return (
    <section className={style.hero} aria-labelledby="hero-title">
      <div className={style.inside}>
        <div className={style.words}>
          <p className={style.eyebrow}>Open models on shared GPUs</p>
          <h1 id="hero-title">
            Anybody’s GPU,
            <br />
            <em>one honest market</em>
          </h1>
          <p className={style.lead}>
            Send a prompt over the API that your tools already speak. Somebody’s machine answers, you pay for what was delivered, and every
            credit is accounted for.
          </p>
          <div className={style.ways}>
            <ButtonLink to={status === "in" ? "/dashboard" : "/register"} look="gold" size="lg" icon={<Icon name="spark" />}>
              {status === "in" ? "Open the dashboard" : "Try a model"}
            </ButtonLink>
            <ButtonAnchor href="#share" size="lg" icon={<Icon name="chip" />}>
              Share a GPU
            </ButtonAnchor>
          </div>
          <Welcome />
        </div>
        <Example />
      </div>
    </section>
  );
}

/** What a new account begins with; its line is there before the figure is. */
function Welcome() {
  const { data: config } = usePolled(market.config);
  if (config && isZero(config.welcome_credits)) return null;
  return (
    <p className={style.welcome}>
      <Icon name="coins" size={18} />
      <span>A new account begins with {config ? <Credits amount={config.welcome_credits} /> : <Skeleton width="8ch" />}.</span>
    </p>
  );
}
