import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Status } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import { Commands } from "./Commands.tsx";
import { CorrectionButton } from "./corrections/CorrectionButton.tsx";
import { queries } from "./queries.ts";
import { Rows } from "./Rows.tsx";
import { Search } from "./Search.tsx";
import { BlockButton } from "./users/BlockButton.tsx";
import { RoleOf } from "./users/RoleOf.tsx";

/** Everybody with an account, and what may be done about them. */
export function Users() {
  const { q = "" } = useSearch({ from: "/admin/users" });
  const navigate = useNavigate({ from: "/admin/users" });
  const people = useInfiniteQuery({ ...queries.users(q), placeholderData: keepPreviousData });
  return (
    <Page title="Users" lead="Accounts, newest first. A blocked account's sign-ins and keys stop working within seconds; its money stays.">
      <Card>
        <div className={style.bar}>
          <Search
            label="Find an account"
            hint="The beginning of a name or an address."
            value={q}
            onSearch={(text) => void navigate({ search: text ? { q: text } : {}, replace: true })}
          />
        </div>
        <Rows
          query={people}
          what="The accounts cannot be read now"
          empty={
            <Empty icon="users" title={q ? `No account begins with “${q}”` : "Nobody has an account yet"}>
              {q ? "Names and addresses are looked at from their beginning." : "People register on the landing page."}
            </Empty>
          }
        >
          {(rows) => (
            <Table
              caption="Users"
              rows={rows}
              keyOf={(row) => row.id}
              columns={[
                {
                  name: "User",
                  cell: (row) => (
                    <span className={style.two}>
                      {row.username}
                      <small>{row.email ?? "no address"}</small>
                    </span>
                  ),
                },
                { name: "Role", cell: (row) => <RoleOf person={row} /> },
                {
                  name: "State",
                  cell: (row) =>
                    row.blocked_at === null ? (
                      <Status tone="ok">Active</Status>
                    ) : (
                      <span className={style.two}>
                        <Status tone="bad">Blocked</Status>
                        <small>
                          since <Time at={row.blocked_at} />
                        </small>
                      </span>
                    ),
                },
                { name: "Since", cell: (row) => <Time at={row.created_at} /> },
                {
                  name: "Credits",
                  isFigure: true,
                  cell: (row) => (
                    <span className={style.two}>
                      <Credits amount={row.total} bare />
                      <small>
                        <Credits amount={row.held} bare /> held
                      </small>
                    </span>
                  ),
                },
                {
                  name: "Actions",
                  cell: (row) => (
                    <div className={style.actions}>
                      <CorrectionButton person={row} />
                      <BlockButton person={row} />
                    </div>
                  ),
                },
              ]}
            />
          )}
        </Rows>
      </Card>
      <Commands
        commands={[
          { does: "Give an account the operator's right", text: "gfe admin create-operator NAME" },
          { does: "Take it away; its sign-ins end", text: "gfe admin remove-operator NAME" },
        ]}
      >
        Who operates the platform is decided on its own machine: no API can do it. Whether somebody is a consumer or a provider they choose
        themselves.
      </Commands>
    </Page>
  );
}
