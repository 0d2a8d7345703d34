import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Command } from "../../components/Command.tsx";
import { Icon } from "../../components/Icon.tsx";
import * as market from "../../market/market.ts";
import { usePolled } from "../../market/polled.ts";
import { Section } from "./Section.tsx";
import style from "./Share.module.css";

const EVERYTHING = 100;

/** How to become a provider: the real commands, with the address that this page came from. */
export function Share() {
  const { data: config } = usePolled(market.config);
  const site = window.location.origin;
  const share = config ? EVERYTHING - config.default_fee_percent : undefined;
  return (
    <Section
      id="share"
      raised
      title="Share a GPU"
      lead="A machine with Ollama, or with nothing but a fast processor, becomes a node in three steps: behind any router, without an open port."
    >
      <div className={style.place}>
        <ol className={style.steps}>
          <li>
            <h3>Make a code</h3>
            <p>Create an account, open the provider page, press “Add a machine”. The code works once, for ten minutes.</p>
          </li>
          <li>
            <h3>Paste one line on your machine</h3>
            <Command text={`curl -fsS ${site}/install.sh | sh -s -- --code gfe_enroll_…`} what="command that installs the agent" />
            <p>Where the agent is installed already:</p>
            <Command text={`gfe agent --url ${site} --code gfe_enroll_…`} what="command that starts the agent" />
          </li>
          <li>
            <h3>Watch it earn</h3>
            <p>The console shows the node as soon as it is connected: its jobs, its speed, its earnings. Your own use comes first:</p>
            <Command text={'gfe agent --share 50% --schedule "22:00-08:00,weekend"'} what="command with limits" />
          </li>
        </ol>
        <Card title="What to know before" level={3}>
          <ul className={style.facts}>
            <li>
              <Icon name="check" size={18} />
              {share === undefined ? "You get what a job costs, less the platform’s fee." : `You get ${share} % of what a job costs.`}
            </li>
            <li>
              <Icon name="check" size={18} />
              The agent opens one connection outwards, and listens nowhere.
            </li>
            <li>
              <Icon name="check" size={18} />
              It runs models and nothing else: no shell, no files, no downloads.
            </li>
            <li>
              <Icon name="check" size={18} />
              It pauses when you need your GPU, and one command uninstalls it with all that it kept.
            </li>
          </ul>
          <ButtonLink to="/dashboard/provider" look="gold" wide>
            Add a machine
          </ButtonLink>
        </Card>
      </div>
    </Section>
  );
}
