import { type ReactNode, useEffect, useRef } from "react";
import { Button } from "../../../components/Button.tsx";
import { Notice } from "../../../components/Notice.tsx";
import style from "./ChangeForm.module.css";
import { LogEntries } from "./LogEntries.tsx";

/** What came of a change. */
export interface Outcome {
  title: string;
  text?: ReactNode;
}

/** It is done; `requestId`: where its lines in the audit log are found. */
export function Done({ outcome, requestId, onClose }: { outcome: Outcome; requestId: string | undefined; onClose: () => void }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => place.current?.focus(), []); // the button that was pressed is gone
  return (
    <div className={style.form} ref={place} tabIndex={-1}>
      <Notice kind="ok" title={outcome.title}>
        {outcome.text}
      </Notice>
      {requestId ? <LogEntries requestId={requestId} /> : null}
      <div className={style.buttons}>
        <Button onClick={onClose}>Done</Button>
      </div>
    </div>
  );
}
