import { Icon, type IconName } from "../../components/Icon.tsx";
import style from "./Purpose.module.css";

export type Role = "USER" | "PROVIDER";

export const PURPOSES: readonly { role: Role; icon: IconName; name: string }[] = [
  { role: "USER", icon: "spark", name: "Use models" },
  { role: "PROVIDER", icon: "chip", name: "Share a GPU" },
];

/** What the console shows first; an account can do both. */
export function Purpose({ role, onChange }: { role: Role; onChange: (role: Role) => void }) {
  return (
    <fieldset className={style.purpose}>
      <legend>What brings you here?</legend>
      <div className={style.choices}>
        {PURPOSES.map((one) => (
          <label key={one.role}>
            <input type="radio" name="role" value={one.role} checked={one.role === role} onChange={() => onChange(one.role)} />
            <Icon name={one.icon} />
            {one.name}
          </label>
        ))}
      </div>
      <p>It decides what you see first. Every account can do both.</p>
    </fieldset>
  );
}
