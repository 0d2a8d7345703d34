import type { components as Ledger } from "../client/ledger.d.ts";
import { getJson } from "../client/public.ts";
import type { components as Serve } from "../client/serve.d.ts";
import { apiUrl, config as askConfig } from "../config.ts";
import { Poll } from "./polled.ts";

/** What everybody may know: figures, models, prices, and what is set here. */

export type Stats = Serve["schemas"]["Stats"];
export type Models = Serve["schemas"]["Models"];
export type Model = Models["models"][number];
export type Prices = Ledger["schemas"]["PriceList"];

export const askStats = async (): Promise<Stats> => getJson(`${await apiUrl()}/api/computing/stats/`);
export const askModels = async (): Promise<Models> => getJson(`${await apiUrl()}/api/computing/models/`);
export const askPrices = (): Promise<Prices> => getJson("/api/payments/prices/");

const EVERY_MS = 10_000;

export const stats = new Poll(askStats, EVERY_MS);
export const models = new Poll(askModels, EVERY_MS);
export const prices = new Poll(askPrices, 3 * EVERY_MS);
export const config = new Poll(askConfig);
