import type { Prices } from "../../../market/market.ts";

/** A price as the API tells it. */
export type Price = Prices["default"];

/** What the default price is for. */
export const EVERY_OTHER = "every other model";
