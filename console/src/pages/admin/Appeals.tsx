import { useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Segments } from "../../components/Segments.tsx";
import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import list from "./appeals/AppealItem.module.css";
import { AppealItem } from "./appeals/AppealItem.tsx";
import { type AppealState, queries } from "./queries.ts";
import { Rows } from "./Rows.tsx";

const CHOICES = [
  { value: "OPEN", name: "To decide" },
  { value: "UPHELD", name: "Upheld" },
  { value: "REFUSED", name: "Refused" },
  { value: "ALL", name: "All" },
] as const;
type Choice = (typeof CHOICES)[number]["value"];

/** What providers say against what was found. */
export function Appeals() {
  const { state } = useSearch({ from: "/admin/appeals" });
  const navigate = useNavigate({ from: "/admin/appeals" });
  const choice: Choice = state ?? "OPEN";
  const wanted: AppealState | undefined = choice === "ALL" ? undefined : choice;
  const appeals = useInfiniteQuery(queries.appeals(wanted));
  return (
    <Page title="Appeals" lead="A provider objects to what audits found. Look at the audits, then decide; the provider reads your answer.">
      <Card>
        <div className={style.bar}>
          <Segments
            label="State"
            options={CHOICES}
            value={choice}
            onChoose={(value) => void navigate({ search: value === "OPEN" ? {} : { state: value }, replace: true })}
          />
        </div>
        <Rows
          query={appeals}
          what="The appeals cannot be read now"
          empty={
            <Empty icon="scale" title={wanted === "OPEN" ? "No appeal waits" : "There is none"}>
              {wanted === "OPEN" ? "Providers appeal on the page of their machine." : null}
            </Empty>
          }
        >
          {(rows) => (
            <ul className={list.list}>
              {rows.map((row) => (
                <AppealItem key={row.id} appeal={row} />
              ))}
            </ul>
          )}
        </Rows>
      </Card>
    </Page>
  );
}
