import { Card } from "../../components/Card.tsx";
import { CopyButton } from "../../components/CopyButton.tsx";
import { Facts } from "../../components/Facts.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Segments } from "../../components/Segments.tsx";
import { Time } from "../../components/Time.tsx";
import type { Profile } from "../../queries.ts";
import { PURPOSES, type Role } from "../register/Purpose.tsx";
import style from "./ProfileCard.module.css";
import { useProfileChange } from "./saving.ts";

/** Name, id, since when; and what the console shows first. */
export function ProfileCard({ profile }: { profile: Profile }) {
  const change = useProfileChange();
  const role = change.variables?.role ?? profile.role; // while it is being saved, too: the platform refuses neither
  return (
    <Card title="Profile">
      <div className={style.place}>
        <div className={style.who}>
          <span className={style.face} aria-hidden="true">
            {[...profile.username][0]?.toUpperCase()}
          </span>
          <strong>{profile.username}</strong>
        </div>
        <Facts
          of={[
            [
              "Id",
              <span key="id" className={style.id}>
                <code>{profile.id}</code>
                <CopyButton text={profile.id} what="your id" />
              </span>,
            ],
            ["Here since", <Time key="since" at={profile.created_at} />],
          ]}
        />
        <div className={style.role}>
          <p>What brings you here</p>
          <Segments
            label="What brings you here"
            options={PURPOSES.map(({ role: value, name }) => ({ value, name }))}
            value={(change.error ? profile.role : role) as Role}
            onChoose={(value) => change.mutate({ role: value })}
          />
          <small role="status">{change.isSuccess ? "Saved." : "It decides what you see first. Every account can do both."}</small>
        </div>
        {change.error ? <Failure problem={change.error} what="That was not saved" /> : null}
      </div>
    </Card>
  );
}
