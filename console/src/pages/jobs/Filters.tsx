import { Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { choice } from "../../components/choice.ts";
import { JOB_STATES, STATE_WORDS } from "../../jobs/states.ts";
import { type JobFilter, queries } from "../../queries.ts";
import style from "./Filters.module.css";

interface Props {
  filter: JobFilter;
  /** Models of jobs in the list; they may not be offered any more. */
  seen: readonly string[];
}

const EXACTLY = { exact: true, includeSearch: true };

/** Which jobs to show; kept in the address, so that it can be come back to. */
export function Filters({ filter, seen }: Props) {
  const navigate = useNavigate({ from: "/dashboard/jobs" });
  const models = useQuery(queries.models);
  const names = [
    ...new Set([...(models.data?.models.map((model) => model.name) ?? []), ...seen, ...(filter.model ? [filter.model] : [])]),
  ].sort();
  const { status: _, ...others } = filter;
  return (
    <div className={style.filters}>
      <nav aria-label="State" className={style.states}>
        <Link to="/dashboard/jobs" search={others} activeOptions={EXACTLY}>
          All
        </Link>
        {JOB_STATES.map((status) => (
          <Link key={status} to="/dashboard/jobs" search={{ ...others, status }} activeOptions={EXACTLY}>
            {STATE_WORDS[status]}
          </Link>
        ))}
      </nav>
      <Select
        {...choice}
        aria-label="Model"
        placeholder="All models"
        data={names}
        value={filter.model ?? null}
        onChange={(model) => {
          const { model: __, ...rest } = filter;
          void navigate({ search: model ? { ...rest, model } : rest });
        }}
        clearable
        clearButtonProps={{ "aria-label": "All models" }}
        searchable={names.length > 8}
        className={style.model ?? ""}
      />
    </div>
  );
}
