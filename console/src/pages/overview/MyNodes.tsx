import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Status } from "../../components/Status.tsx";
import { queries } from "../../queries.ts";
import style from "./MyNodes.module.css";

const SHOWN = 5;
const AGAIN_MS = 15_000; // nobody tells an owner that a node came or went

interface Node {
  id: string;
  name: string;
  online: boolean;
  draining?: boolean;
  slots?: number;
  running?: number;
}

/** The machines that one shares. */
export function MyNodes() {
  const nodes = useQuery({ ...queries.nodes, refetchInterval: ({ state }) => (state.data?.results.length ? AGAIN_MS : false) });
  return (
    <Card title="My nodes" aside={<Link to="/dashboard/provider">Manage</Link>}>
      <Loaded query={nodes} what="Your nodes cannot be read now">
        {({ results }) => {
          const all = results as Node[];
          if (all.length === 0) {
            return (
              <div className={style.none}>
                <p>No machine yet. Share a GPU, and earn what its jobs cost.</p>
                <ButtonLink to="/dashboard/provider" icon={<Icon name="chip" />}>
                  Add a machine
                </ButtonLink>
              </div>
            );
          }
          return (
            <ul className={style.nodes}>
              {all.slice(0, SHOWN).map((node) => (
                <li key={node.id}>
                  <span className={style.name}>{node.name}</span>
                  <Status tone={node.online ? "ok" : "none"}>{node.online ? loadOf(node) : "Offline"}</Status>
                </li>
              ))}
              {all.length > SHOWN ? (
                <li>
                  <Link to="/dashboard/provider">{all.length - SHOWN} more</Link>
                </li>
              ) : null}
            </ul>
          );
        }}
      </Loaded>
    </Card>
  );
}

function loadOf({ running, slots }: Node): string {
  return slots === undefined ? "Online" : `Online, ${running ?? 0} of ${slots} busy`;
}
