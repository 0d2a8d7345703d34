import { Card } from "../../components/Card.tsx";
import { Icon, type IconName } from "../../components/Icon.tsx";
import { Notice } from "../../components/Notice.tsx";
import style from "./Mails.module.css";

const MAILS: readonly { icon: IconName; name: string; says: string }[] = [
  { icon: "check", name: "Confirm your address", says: "A link, when you set an address. It works for two days." },
  { icon: "key", name: "A new password", says: "A link, when somebody asks for one at the sign-in page. It works once, for an hour." },
  {
    icon: "chip",
    name: "Your machines",
    says: "When a check found something, when a machine is paused, put into quarantine or banned: what happened, why, for which job, what was forfeited, and what to do. And what an operator answers to an appeal.",
  },
];

/** What we write mails about. */
export function Mails({ isVerified }: { isVerified: boolean }) {
  return (
    <Card title="What we mail you">
      <ul className={style.mails}>
        {MAILS.map(({ icon, name, says }) => (
          <li key={name}>
            <span className={style.icon}>
              <Icon name={icon} size={18} />
            </span>
            <div>
              <strong>{name}</strong>
              <p>{says}</p>
            </div>
          </li>
        ))}
      </ul>
      <p className={style.note}>Nothing else: no news, no advertising.</p>
      {isVerified ? null : (
        <Notice kind="warn" title="Only the first reaches you now">
          News of machines and new passwords go to a confirmed address alone.
        </Notice>
      )}
    </Card>
  );
}
