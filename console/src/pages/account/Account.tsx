import { useQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { queries } from "../../queries.ts";
import { AccountPage } from "./AccountPage.tsx";
import { Email } from "./Email.tsx";
import style from "./Form.module.css";
import { Mails } from "./Mails.tsx";
import { ProfileCard } from "./ProfileCard.tsx";

/** F10: who one is here, and how one is reached. */
export function Account() {
  const profile = useQuery(queries.profile);
  return (
    <AccountPage title="Account" lead="Who you are here, and how we reach you.">
      <Loaded query={profile} what="The profile cannot be read now" waits={<Waits />}>
        {(data) => (
          <div className={style.cards}>
            <ProfileCard profile={data} />
            <Email profile={data} />
            <Mails isVerified={data.email_verified} />
          </div>
        )}
      </Loaded>
    </AccountPage>
  );
}

function Waits() {
  return (
    <div className={style.cards}>
      {["Profile", "E-mail"].map((title) => (
        <Card key={title} title={title}>
          <Skeleton height="12rem" />
        </Card>
      ))}
    </div>
  );
}
