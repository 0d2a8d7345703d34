import { Modal } from "@mantine/core";
import { type QueryKey, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useLayoutEffect, useRef, useState } from "react";
import { Button, type Look } from "../../../components/Button.tsx";
import { keys } from "../queries.ts";
import style from "./ChangeButton.module.css";
import { type Change, ChangeForm } from "./ChangeForm.tsx";

interface Props extends Change {
  /** What stands on the button that opens the dialog. */
  label: string;
  /** Where several buttons say the same: what this one is about, for those who hear it. */
  about?: string;
  look?: NonNullable<Look["look"]>;
  icon?: ReactNode;
  /** A question, or what is asked for: `Block petra?`. */
  title: string;
  /** What has to be read anew afterwards. */
  stale: readonly QueryKey[];
  /** Whether it can be done now; a dialog that is open stays. */
  isOffered?: boolean;
  /** The dialog is about to open: fields may begin anew. */
  onOpen?: () => void;
}

/** A button to something that operators do: a dialog says what will happen, asks why, and shows what came of it. */
export function ChangeButton(props: Props) {
  const { label, about, look = "plain", icon, stale, isOffered = true, onOpen } = props;
  // What the dialog was opened for: news that come meanwhile must not make another question of it.
  const [asked, setAsked] = useState<Props>();
  const [isOpen, setOpen] = useState(false);
  const isBusy = useRef(false);
  const client = useQueryClient();
  const isShown = isOffered || isOpen;
  useFocusKept(isShown, asked !== undefined);

  const open = () => {
    onOpen?.();
    setAsked(props);
    setOpen(true);
  };
  const close = () => {
    if (isBusy.current) return;
    setOpen(false);
    // Not before: the row that was changed, and this dialog with it, may leave the list.
    for (const queryKey of [...stale, keys.logPages]) void client.invalidateQueries({ queryKey });
  };
  if (!isShown) return null;
  const { title, ...change } = typeof props.children === "function" ? props : (asked ?? props);
  return (
    <>
      <Button look={look} icon={icon} aria-haspopup="dialog" onClick={open}>
        {label}
        {about ? <span className="heard"> {about}</span> : null}
      </Button>
      <Modal
        opened={isOpen}
        onClose={close}
        title={title}
        size="lg"
        closeButtonProps={{ "aria-label": "Close" }}
        classNames={{ title: style.title ?? "" }}
      >
        <ChangeForm
          {...change}
          onClose={close}
          onBusy={(busy) => {
            isBusy.current = busy;
          }}
        />
      </Modal>
    </>
  );
}

/** What was changed may leave the page, and its button and dialog with it: the focus must not fall out of the page then. */
function useFocusKept(isShown: boolean, wasUsed: boolean): void {
  const isUsed = useRef(wasUsed);
  isUsed.current = wasUsed;
  useLayoutEffect(() => {
    if (!isShown) return;
    return () => {
      if (!isUsed.current) return;
      setTimeout(() => {
        if (document.activeElement === document.body) document.getElementById("main")?.focus();
      }, 0);
    };
  }, [isShown]);
}
