import { useQuery } from "@tanstack/react-query";
import type { Model } from "../../market/market.ts";
import { inOrder } from "../../market/order.ts";
import { queries } from "../../queries.ts";
import { counted } from "../../words.ts";

const AGAIN_MS = 15_000; // the socket tells who comes and goes, not what a price is now

type Price = Model["price"];

/** The models on offer, the ones that can answer now first, and which of them is chosen: the one that is wanted, or the first. */
export function useModels(wanted: string) {
  const asked = useQuery({ ...queries.models, refetchInterval: AGAIN_MS });
  const prices = useQuery({ ...queries.prices, refetchInterval: AGAIN_MS });
  const models = inOrder(asked.data?.models ?? []);
  const chosen = wanted || (models[0]?.name ?? "");
  const priceOf = (name: string): Price | undefined =>
    models.find((one) => one.name === name)?.price ?? prices.data?.models[name] ?? prices.data?.default;
  return { asked, models, chosen, priceOf };
}

/** `2 nodes`, `no node now`. */
export function nodesText(model: Pick<Model, "online" | "nodes"> | undefined): string {
  if (!model?.online || model.nodes === 0) return "no node now";
  return counted(model.nodes, "node");
}
