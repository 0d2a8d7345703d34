import { done } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { keys as market } from "../../../queries.ts";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { type CatalogModel, keys } from "../queries.ts";

/** Takes a model out of the catalog. */
export function ForbidButton({ model }: { model: CatalogModel }) {
  return (
    <ChangeButton
      label="Forbid"
      about={model.name}
      title={`Forbid ${model.name}?`}
      action="Forbid"
      isGrave
      stale={[keys.catalog, market.models]}
      change={async ({ headers }) => {
        await done(ledger.DELETE("/api/admin/catalog/{name}/", { params: { path: { name: model.name } }, headers }));
        return { title: `${model.name} is out of the catalog` };
      }}
    >
      <p>
        Where the catalog is the law (<code>GFE_CATALOG=approved</code>), no node's <strong>{model.name}</strong> is offered any more,
        within seconds. Jobs that run are finished.
      </p>
    </ChangeButton>
  );
}
