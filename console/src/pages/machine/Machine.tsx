import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { ButtonLink } from "../../components/Button.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status } from "../../components/Status.tsx";
import { Page } from "../../shell/Page.tsx";
import { MachineActions } from "../provider/MachineActions.tsx";
import { type LiveNode, type OwnNode, provider } from "../provider/queries.ts";
import { standing } from "../provider/standing.ts";
import { Checks } from "./Checks.tsx";
import { Hardware } from "./Hardware.tsx";
import style from "./Machine.module.css";
import { Models } from "./Models.tsx";
import { Money } from "./Money.tsx";
import { Said } from "./Said.tsx";
import { Work } from "./Work.tsx";

/** One machine of one's own: how it is, why it gets no jobs, what was found about it, what it earned. */
export function Machine() {
  const { id } = useParams({ from: "/dashboard/provider/$id" });
  const node = useQuery(provider.node(id));
  const live = useQuery(provider.live);
  const navigate = useNavigate();
  return (
    <Page
      title={node.data?.name ?? "Machine"}
      lead={
        <span className={style.lead}>
          <Link to="/dashboard/provider" className={style.back}>
            <Icon name="back" size={18} /> Provider
          </Link>
          {node.data ? <Now node={node.data} live={live.data?.get(id)} /> : null}
        </span>
      }
      actions={node.data ? <MachineActions node={node.data} onGone={() => void navigate({ to: "/dashboard/provider" })} /> : null}
    >
      <Loaded query={node} what="The machine cannot be read now" waits={<Skeleton height="24rem" />}>
        {(found) => (found === null ? <Missing /> : <Parts node={found} live={live.data?.get(id)} />)}
      </Loaded>
    </Page>
  );
}

function Now({ node, live }: { node: OwnNode; live: LiveNode | undefined }) {
  const { tone, word } = standing(node, live);
  return <Status tone={tone}>{word}</Status>;
}

function Parts({ node, live }: { node: OwnNode; live: LiveNode | undefined }) {
  const { tone, word, more } = standing(node, live);
  return (
    <>
      {more ? (
        <Notice kind={tone === "bad" ? "bad" : tone === "warn" ? "warn" : "info"} title={word}>
          <Said text={more} />
        </Notice>
      ) : null}
      <div className={style.pair}>
        <Hardware node={node} live={live} />
        <div className={style.column}>
          <Work id={node.id} />
          <Money id={node.id} />
        </div>
      </div>
      <Models node={node} live={live} />
      <Checks node={node} />
    </>
  );
}

function Missing() {
  return (
    <Empty icon="search" title="There is no such machine" action={<ButtonLink to="/dashboard/provider">All machines</ButtonLink>}>
      It is not yours, or it was deregistered. What a deregistered machine earned stands among your earnings.
    </Empty>
  );
}
