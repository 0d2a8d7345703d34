import { serveFetch } from "../../../client/api.ts";
import { problemOf } from "../../../client/problem.ts";

/** Nodes as the job APIs tell operators of them (`/api/admin/nodes/`); their OpenAPI document does not describe these routes. */

export interface OfferedModel {
  name: string;
  digest: string;
  size_bytes: number;
  context_tokens: number;
  loaded: boolean;
  fits: boolean;
  trouble: string;
}

export interface Gpu {
  name: string;
  uuid: string;
  memory_bytes: number;
  free_bytes: number | null;
  utilization_percent: number | null;
  temperature_c: number | null;
}

export interface AdminNode {
  id: string;
  name: string;
  kind: "edge" | "trusted";
  provider: string | null;
  owner: string | null;
  /** As the ledger's feed tells it; null: the ledger does not know the node. */
  state: string | null;
  online: boolean;
  healthy: boolean;
  draining: boolean;
  reason: string;
  zone: string;
  operation: string;
  slots: number;
  running: number;
  runtime: string;
  gpus: Gpu[];
  models: OfferedModel[];
}

export async function listNodes(): Promise<AdminNode[]> {
  return (await ask<{ results: AdminNode[] }>("")).results;
}

/** Let a node take no new jobs; those that run are finished. */
export function drainNode(id: string): Promise<AdminNode> {
  return ask(`${encodeURIComponent(id)}/drain/`, "POST");
}

/** Let it take jobs again. */
export function resumeNode(id: string): Promise<AdminNode> {
  return ask(`${encodeURIComponent(id)}/resume/`, "POST");
}

async function ask<T>(path: string, method = "GET"): Promise<T> {
  const response = await serveFetch(`/api/admin/nodes/${path}`, { method });
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw problemOf(response, body);
  return body as T;
}
