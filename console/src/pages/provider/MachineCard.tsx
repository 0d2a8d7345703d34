import { Link } from "@tanstack/react-router";
import { Icon } from "../../components/Icon.tsx";
import { Meter } from "../../components/Meter.tsx";
import { Status } from "../../components/Status.tsx";
import { Time } from "../../components/Time.tsx";
import { counted, listed } from "../../words.ts";
import { Said } from "../machine/Said.tsx";
import { busiest, hardware } from "./hardware.ts";
import { MachineActions } from "./MachineActions.tsx";
import style from "./MachineCard.module.css";
import type { LiveNode, OwnNode } from "./queries.ts";
import { standing, tierName } from "./standing.ts";

/** One machine: how it is, what it has, and what can be done with it. */
export function MachineCard({ node, live }: { node: OwnNode; live: LiveNode | undefined }) {
  const { tone, word, more } = standing(node, live);
  const isOn = live?.online ?? false;
  const work = live ? busiest(live.gpus) : undefined;
  return (
    <li className={style.card} data-on={isOn && tone === "ok" ? "" : undefined} aria-label={node.name}>
      <div className={style.head}>
        <span className={style.mark}>
          <Icon name="chip" size={24} />
        </span>
        <div className={style.who}>
          <h3>
            <Link to="/dashboard/provider/$id" params={{ id: node.id }}>
              {node.name}
            </Link>
          </h3>
          <p>{isOn ? hardware(live) : kindOf(node)}</p>
        </div>
        <Status tone={tone}>{word}</Status>
      </div>
      {more ? (
        <p className={style.more}>
          <Said text={more} />
        </p>
      ) : null}
      {live && isOn ? (
        <div className={style.meters}>
          <Meter label="Slots" value={live.running} most={live.slots} words={`${live.running} of ${live.slots} in use`} />
          {work === undefined ? null : <Meter label="GPU" value={work} most={100} words={`${work} %`} tone="gold" />}
        </div>
      ) : null}
      <dl className={style.facts}>
        {live && isOn ? (
          <div>
            <dt>{counted(live.models.length, "model")}</dt>
            <dd>{listed(live.models.map((model) => model.name)) || "–"}</dd>
          </div>
        ) : null}
        <div>
          <dt>Tier</dt>
          <dd>{tierName(node.tier)}</dd>
        </div>
        <div>
          <dt>Version</dt>
          <dd>{node.agent_version ?? (node.kind === "trusted" ? "the platform’s own" : "–")}</dd>
        </div>
        {isOn ? null : (
          <div>
            <dt>Last seen</dt>
            <dd>{node.last_seen_at ? <Time at={node.last_seen_at} /> : "never"}</dd>
          </div>
        )}
      </dl>
      <div className={style.foot}>
        <MachineActions node={node} />
      </div>
    </li>
  );
}

function kindOf(node: OwnNode): string {
  return node.kind === "trusted" ? "A machine of the platform itself" : (node.platform ?? "Edge machine");
}
