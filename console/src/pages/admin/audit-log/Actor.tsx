import { useSession } from "../../../session/use-session.ts";

/** Who did something, as the audit log writes it; oneself is `you`. */
export function Actor({ actor }: { actor: string }) {
  const self = useSession().claims?.sub;
  return self !== undefined && actor === self ? <span title={actor}>you</span> : <code>{actor}</code>;
}
