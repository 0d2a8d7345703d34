import { useSearch } from "@tanstack/react-router";
import { useEffect } from "react";
import { desk } from "../../jobs/desk.ts";
import { Page } from "../../shell/Page.tsx";
import { ActiveJobs } from "./ActiveJobs.tsx";
import { Answers } from "./Answers.tsx";
import { LastJobs } from "./LastJobs.tsx";
import { LiveModels } from "./LiveModels.tsx";
import { MyNodes } from "./MyNodes.tsx";
import { NetworkNow } from "./NetworkNow.tsx";
import style from "./Overview.module.css";
import { Submitter } from "./Submitter.tsx";
import { WalletStrip } from "./WalletStrip.tsx";

/** F4, F5: what one has, a place to ask, what runs now and what ran last. */
export function Overview() {
  const { model } = useSearch({ from: "/dashboard/" });
  useEffect(() => {
    if (model !== undefined) desk.edit({ model });
  }, [model]);
  return (
    <Page title="Overview">
      <WalletStrip />
      <div className={style.places}>
        <div className={style.form}>
          <Submitter />
        </div>
        <div className={`${style.wide} ${style.rows}`}>
          <Answers />
          <ActiveJobs />
          <LastJobs />
          <MyNodes />
        </div>
        <div className={style.side}>
          <NetworkNow />
          <LiveModels />
        </div>
      </div>
    </Page>
  );
}
