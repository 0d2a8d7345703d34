import { Button } from "../../components/Button.tsx";
import { Command } from "../../components/Command.tsx";
import { Notice } from "../../components/Notice.tsx";
import style from "./NewKeyDialog.module.css";

interface Props {
  made: { key: string; name: string };
  onClose: () => void;
}

/** A key's secret; nobody can show it again. */
export function MadeKey({ made, onClose }: Props) {
  return (
    <div className={style.form}>
      <Notice kind="warn" title="Copy it now">
        It is shown this once. We keep nothing that it could be read from again.
      </Notice>
      <Command text={made.key} what={`key ${made.name}`} />
      <div>
        <p>For a shell:</p>
        <Command text={`export GFE_API_KEY=${made.key}`} what="command for a shell" />
      </div>
      <div className={style.buttons}>
        <Button look="gold" autoFocus onClick={onClose}>
          I have copied it
        </Button>
      </div>
    </div>
  );
}
