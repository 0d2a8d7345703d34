import { useQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { queries } from "../../queries.ts";
import { journeyFailure } from "../login/journey.ts";
import { AccountPage } from "./AccountPage.tsx";
import { Connected } from "./Connected.tsx";
import style from "./Form.module.css";
import { Password } from "./Password.tsx";
import { SecondFactor } from "./SecondFactor.tsx";
import { Sessions } from "./Sessions.tsx";

/** F10: how one signs in, and where one is signed in. */
export function Security() {
  const { error } = useSearch({ from: "/dashboard/account/security" });
  const profile = useQuery(queries.profile);
  return (
    <AccountPage title="Security" lead="How you sign in, and where you are signed in.">
      {error ? (
        <Notice kind="bad" title="The service was not connected">
          {journeyFailure(error)}
        </Notice>
      ) : null}
      <Loaded query={profile} what="The account cannot be read now" waits={<Waits />}>
        {(data) => (
          <div className={style.cards}>
            <Password profile={data} />
            <SecondFactor profile={data} />
          </div>
        )}
      </Loaded>
      <Connected />
      <Sessions />
    </AccountPage>
  );
}

function Waits() {
  return (
    <div className={style.cards}>
      {["Password", "Second factor"].map((title) => (
        <Card key={title} title={title}>
          <Skeleton height="14rem" />
        </Card>
      ))}
    </div>
  );
}
