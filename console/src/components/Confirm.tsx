import { Modal } from "@mantine/core";
import type { FormEvent, ReactNode } from "react";
import { Button } from "./Button.tsx";
import style from "./Confirm.module.css";
import { Failure } from "./Failure.tsx";

interface Props {
  isOpen: boolean;
  onClose: () => void;
  /** A question, or what is asked for: `Deregister attic?`. */
  title: string;
  /** What will happen; or the fields to fill in. */
  children: ReactNode;
  /** The word on the button that does it. */
  action: string;
  onConfirm: () => void;
  busy?: boolean;
  /** What went wrong the last time. */
  problem?: unknown;
  /** It cannot be undone. */
  isGrave?: boolean;
}

/** Asks before something is done; Enter does it where there is a field, Escape never does. */
export function Confirm({ isOpen, onClose, title, children, action, onConfirm, busy = false, problem, isGrave = false }: Props) {
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!busy) onConfirm();
  };
  return (
    <Modal
      opened={isOpen}
      onClose={onClose}
      title={title}
      closeButtonProps={{ "aria-label": "Close" }}
      classNames={{ title: style.title ?? "", content: style.dialog ?? "" }}
    >
      <form className={style.form} onSubmit={submit}>
        <div className={style.text}>{children}</div>
        {problem ? <Failure problem={problem} /> : null}
        <div className={style.buttons}>
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look={isGrave ? "bad" : "gold"} busy={busy}>
            {action}
          </Button>
        </div>
      </form>
    </Modal>
  );
}
