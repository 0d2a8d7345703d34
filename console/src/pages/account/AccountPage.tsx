import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { Page } from "../../shell/Page.tsx";
import style from "./AccountPage.module.css";

const EXACT = { exact: true, includeSearch: false };

interface Props {
  title: string;
  lead: string;
  actions?: ReactNode;
  children: ReactNode;
}

/** A page of the account, with the way to the others. */
export function AccountPage({ title, lead, actions, children }: Props) {
  return (
    <Page title={title} lead={lead} actions={actions}>
      <nav aria-label="Account" className={style.parts}>
        <Link to="/dashboard/account" activeOptions={EXACT}>
          Profile
        </Link>
        <Link to="/dashboard/account/security" activeOptions={EXACT}>
          Security
        </Link>
        <Link to="/dashboard/account/keys" activeOptions={EXACT}>
          API keys
        </Link>
      </nav>
      {children}
    </Page>
  );
}
