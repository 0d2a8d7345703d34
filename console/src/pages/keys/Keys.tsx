import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Command } from "../../components/Command.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { queries } from "../../queries.ts";
import { AccountPage } from "../account/AccountPage.tsx";
import { account, type Key } from "../account/queries.ts";
import { ChangeKey } from "./ChangeKey.tsx";
import style from "./Keys.module.css";
import { KeyTable } from "./KeyTable.tsx";
import { NewKeyDialog } from "./NewKeyDialog.tsx";
import { RevokeKey } from "./RevokeKey.tsx";

type Asked = { what: "new" } | { what: "change" | "revoke"; key: Key };

/** F10: what programs speak for oneself with. */
export function Keys() {
  const keys = useInfiniteQuery(account.keys);
  const config = useQuery(queries.config);
  const models = useQuery(queries.models);
  const [asked, ask] = useState<Asked>();
  const from = useRef<HTMLElement>(null);
  const rows = keys.data?.pages.flatMap((page) => page.results) ?? [];
  const open = (wanted: Asked) => {
    from.current = document.activeElement instanceof HTMLElement ? document.activeElement : null;
    ask(wanted);
  };
  const close = () => {
    ask(undefined);
    from.current?.focus();
  };
  const make = (
    <Button look="gold" icon={<Icon name="plus" size={18} />} onClick={() => open({ what: "new" })}>
      New key
    </Button>
  );
  return (
    <AccountPage title="API keys" lead="What your programs speak for you with." actions={rows.length > 0 ? make : null}>
      <Card title="Your keys">
        <Loaded query={keys} what="The keys cannot be read now" waits={<Skeleton height="10rem" />}>
          {() =>
            rows.length > 0 ? (
              <KeyTable rows={rows} onChange={(key) => open({ what: "change", key })} onRevoke={(key) => open({ what: "revoke", key })} />
            ) : (
              <Empty icon="key" title="No key yet" action={make}>
                A program signs its requests with a key. Give each program its own, with a budget, and revoke it when it is no longer
                needed.
              </Empty>
            )
          }
        </Loaded>
        <More query={keys} />
      </Card>
      <Card title="How to use one">
        <div className={style.use}>
          <p>
            Every client of OpenAI, Anthropic or Ollama works: set its address and its key. The key goes into the header, never into an
            address.
          </p>
          <Command
            what="example with curl"
            text={`curl ${config.data?.api_url ?? ""}/v1/chat/completions \\\n  -H "Authorization: Bearer $GFE_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '{"model": "${models.data?.models[0]?.name ?? "a model"}", "messages": [{"role": "user", "content": "Say hello"}]}'`}
          />
        </div>
      </Card>
      {asked?.what === "new" ? <NewKeyDialog onClose={close} /> : null}
      {asked?.what === "change" ? <ChangeKey of={asked.key} onClose={close} /> : null}
      {asked?.what === "revoke" ? <RevokeKey of={asked.key} onClose={close} /> : null}
    </AccountPage>
  );
}
