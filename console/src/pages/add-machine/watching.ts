import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { keys } from "../../queries.ts";
import { type MadeAgentToken, provider, TOKENS } from "../provider/queries.ts";
import { type Stage, stageOf } from "./stage.ts";

const EVERY_MS = 1500;

/** How far the machine is that a code was made for; undefined: there is no code yet. No socket tells of nodes, so it is asked. */
export function useStage(made: MadeAgentToken | undefined, isOver: boolean): Stage | undefined {
  const queries = useQueryClient();
  const tokens = useQuery({
    ...provider.newestTokens,
    enabled: made !== undefined,
    refetchInterval: ({ state }) => (state.data?.find((token) => token.id === made?.id)?.last_used || isOver ? false : EVERY_MS),
  });
  const token = tokens.data?.find((one) => one.id === made?.id);
  const isUsed = Boolean(token?.last_used);
  const live = useQuery({ ...provider.live, enabled: isUsed, refetchInterval: EVERY_MS });
  const { refetch } = tokens;
  useEffect(() => {
    if (isOver) void refetch(); // it may have been used in its last second
  }, [isOver, refetch]);
  useEffect(() => {
    if (!isUsed) return;
    for (const queryKey of [keys.nodes, [...TOKENS, "pages"]]) void queries.invalidateQueries({ queryKey });
  }, [isUsed, queries]);
  return made && stageOf(token, live.data, isOver);
}
