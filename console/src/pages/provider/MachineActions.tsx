import { Menu } from "@mantine/core";
import { useRef, useState } from "react";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Confirm } from "../../components/Confirm.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { useChange, useDeregister, useRevokeOf } from "./changing.ts";
import style from "./MachineActions.module.css";
import type { OwnNode } from "./queries.ts";
import { RenameDialog } from "./RenameDialog.tsx";
import { actionsOf } from "./standing.ts";

interface Props {
  node: OwnNode;
  /** It is gone for good. */
  onGone?: () => void;
}

type Asked = "rename" | "revoke" | "deregister";

/** What an owner can do with a machine: the usual thing as a button, the rest in a menu. */
export function MachineActions({ node, onGone }: Props) {
  const [asked, ask] = useState<Asked>();
  const menu = useRef<HTMLButtonElement>(null);
  const change = useChange(node.id);
  const revoke = useRevokeOf(node.id);
  const deregister = useDeregister(node.id, () => (onGone ? onGone() : close()));
  const can = actionsOf(node);
  const open = (what: Asked) => {
    for (const doing of [change, revoke, deregister]) doing.reset();
    ask(what);
  };
  const close = () => {
    ask(undefined);
    menu.current?.focus();
  };
  const isChangingState = change.isPending && asked === undefined;
  return (
    <div className={style.actions}>
      {can.pause ? (
        <Button icon={<Icon name="pause" size={18} />} busy={isChangingState} onClick={() => change.mutate({ state: "paused" })}>
          Pause
        </Button>
      ) : null}
      {can.resume ? (
        <Button look="gold" icon={<Icon name="play" size={18} />} busy={isChangingState} onClick={() => change.mutate({ state: "active" })}>
          Resume
        </Button>
      ) : null}
      {can.recode ? (
        <ButtonLink look="gold" to="/dashboard/provider/add" search={{ node: node.id }} icon={<Icon name="key" size={18} />}>
          New code
        </ButtonLink>
      ) : null}
      <Menu position="bottom-end" shadow="md" returnFocus>
        <Menu.Target>
          <button ref={menu} type="button" className={style.dots} aria-label={`More for ${node.name}`}>
            <Icon name="dots" />
          </button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<Icon name="pencil" size={18} />} onClick={() => open("rename")}>
            Rename
          </Menu.Item>
          {can.revoke ? (
            <Menu.Item leftSection={<Icon name="key" size={18} />} onClick={() => open("revoke")}>
              Revoke its token
            </Menu.Item>
          ) : null}
          {can.deregister ? (
            <Menu.Item className={style.grave ?? ""} leftSection={<Icon name="power" size={18} />} onClick={() => open("deregister")}>
              Deregister
            </Menu.Item>
          ) : null}
        </Menu.Dropdown>
      </Menu>
      {change.error && asked === undefined ? (
        <div className={style.failure}>
          <Failure problem={change.error} what="That did not work" onRetry={() => change.variables && change.mutate(change.variables)} />
        </div>
      ) : null}
      {asked === "rename" ? <RenameDialog node={node} change={change} onClose={close} /> : null}
      <Confirm
        isOpen={asked === "revoke"}
        onClose={close}
        isGrave
        title={`Revoke the token of ${node.name}?`}
        action="Revoke its token"
        busy={revoke.isPending}
        problem={revoke.error}
        onConfirm={() => revoke.mutate(undefined, { onSuccess: close })}
      >
        <p>Its agent is cut off within seconds and ends, and so does what runs there.</p>
        <p>A new code brings it back, with its history and its tier.</p>
      </Confirm>
      <Confirm
        isOpen={asked === "deregister"}
        onClose={close}
        isGrave
        title={`Deregister ${node.name}?`}
        action="Deregister"
        busy={deregister.isPending}
        problem={deregister.error}
        onConfirm={() => deregister.mutate()}
      >
        <p>It is cut off within seconds and leaves for good: its tier and its history do not come back with a new code.</p>
        <p>What it earned stays yours. To stop for a while, pause it.</p>
      </Confirm>
    </div>
  );
}
