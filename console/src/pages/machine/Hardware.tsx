import { Card } from "../../components/Card.tsx";
import { Facts } from "../../components/Facts.tsx";
import { Meter } from "../../components/Meter.tsx";
import { Time } from "../../components/Time.tsx";
import { bytes, shortName } from "../provider/hardware.ts";
import type { Gpu, LiveNode, OwnNode } from "../provider/queries.ts";
import { tierName } from "../provider/standing.ts";
import style from "./Hardware.module.css";

const HOT_C = 85;
const FULL = 100;

/** What the machine has, and how much of it works now. */
export function Hardware({ node, live }: { node: OwnNode; live: LiveNode | undefined }) {
  return (
    <Card title="Now">
      <div className={style.place}>
        {live?.online ? (
          <>
            <Meter label="Slots" value={live.running} most={live.slots} words={`${live.running} of ${live.slots} in use`} />
            {live.gpus.length > 0 ? (
              live.gpus.map((gpu, at) => (
                <Graphics key={gpu.uuid} gpu={gpu} title={`${live.gpus.length > 1 ? `GPU ${at + 1}: ` : ""}${shortName(gpu.name)}`} />
              ))
            ) : (
              <p className={style.none}>No GPU reported: its processor does the work.</p>
            )}
          </>
        ) : (
          <p className={style.none}>What it has is told while it is connected.</p>
        )}
        <Facts
          of={[
            ["Runtime", live?.runtime],
            ["Doing", live?.operation],
            ["Tier", tierName(node.tier)],
            ["Version", node.agent_version],
            ["System", node.platform],
            ["Kind", node.kind === "trusted" ? "of the platform itself" : "edge, with an agent"],
            ["Last seen", node.last_seen_at ? <Time key="seen" at={node.last_seen_at} /> : null],
            ["Added", <Time key="added" at={node.created_at} />],
            ["Id", <code key="id">{node.id}</code>],
          ]}
        />
      </div>
    </Card>
  );
}

function Graphics({ gpu, title }: { gpu: Gpu; title: string }) {
  const used = gpu.free_bytes === null ? null : gpu.memory_bytes - gpu.free_bytes;
  return (
    <div className={style.gpu}>
      <h3>{title}</h3>
      {gpu.utilization_percent === null ? null : (
        <Meter label="Works" value={gpu.utilization_percent} most={FULL} words={`${gpu.utilization_percent} %`} tone="gold" />
      )}
      {used === null ? (
        <Facts of={[["Memory", bytes(gpu.memory_bytes)]]} />
      ) : (
        <Meter label="Memory" value={used} most={gpu.memory_bytes} words={`${bytes(used)} of ${bytes(gpu.memory_bytes)}`} />
      )}
      <Facts
        of={[
          ["Temperature", gpu.temperature_c === null ? null : `${gpu.temperature_c} °C${gpu.temperature_c >= HOT_C ? ", hot" : ""}`],
          ["Driver", gpu.driver],
        ]}
      />
    </div>
  );
}
