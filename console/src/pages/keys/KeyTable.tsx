import { Button } from "../../components/Button.tsx";
import { Status, type Tone } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import type { Key } from "../account/queries.ts";
import { limitWords, type Standing, standingOf } from "./draft.ts";
import style from "./KeyTable.module.css";
import { scopeName } from "./scopes.ts";

interface Props {
  rows: readonly Key[];
  onChange: (key: Key) => void;
  onRevoke: (key: Key) => void;
}

const SAID: Record<Standing, readonly [Tone, string]> = {
  works: ["ok", "Works"],
  expired: ["warn", "Expired"],
  revoked: ["none", "Revoked"],
};

/** Keys with what they may do, and up to how much. */
export function KeyTable({ rows, onChange, onRevoke }: Props) {
  const now = Date.now();
  return (
    <Table
      caption="API keys, the newest first"
      rows={rows}
      keyOf={(key) => key.id}
      columns={[
        { name: "Key", cell: (key) => <Name of={key} /> },
        { name: "State", cell: (key) => <State of={key} now={now} /> },
        { name: "May", cell: (key) => <span className={style.words}>{key.scopes.map(scopeName).join(", ")}</span> },
        { name: "Up to", cell: (key) => <span className={style.words}>{limitWords(key).join(", ") || "no limit"}</span> },
        { name: "Last used", cell: (key) => (key.last_used_at ? <Time at={key.last_used_at} /> : "never") },
        {
          name: "Change",
          isFigure: true,
          cell: (key) =>
            standingOf(key, now) === "revoked" ? (
              "–"
            ) : (
              <span className={style.actions}>
                <Button look="quiet" aria-label={`Edit ${key.name}`} onClick={() => onChange(key)}>
                  Edit
                </Button>
                <Button look="quiet" aria-label={`Revoke ${key.name}`} onClick={() => onRevoke(key)}>
                  Revoke
                </Button>
              </span>
            ),
        },
      ]}
    />
  );
}

function Name({ of: key }: { of: Key }) {
  return (
    <span className={style.name}>
      <strong>{key.name}</strong>
      <code>gfe_live_{key.id}…</code>
    </span>
  );
}

function State({ of: key, now }: { of: Key; now: number }) {
  const standing = standingOf(key, now);
  const [tone, word] = SAID[standing];
  return (
    <span className={style.state}>
      <Status tone={tone}>{word}</Status>
      {standing === "works" && key.expires_at ? (
        <small>
          until <Time at={key.expires_at} />
        </small>
      ) : null}
    </span>
  );
}
