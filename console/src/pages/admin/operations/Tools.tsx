import { useMutation, useQuery } from "@tanstack/react-query";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Button } from "../../../components/Button.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Icon } from "../../../components/Icon.tsx";
import { queries, type Tool } from "../queries.ts";
import { enterGuard } from "./enter-guard.ts";

interface Entering {
  enter: (tool: string) => void;
  waitsFor: string | undefined;
  error: unknown;
}

/** Asks for a pass and takes it to the guard, in a tab of its own. */
export function useEntering(): Entering {
  const { mutate, isPending, variables, error } = useMutation({
    mutationFn: (tool: string) => answer(ledger.POST("/api/admin/tools/{tool}/pass/", { params: { path: { tool } } })),
    onSuccess: enterGuard,
  });
  return { enter: (tool) => mutate(tool), waitsFor: isPending ? variables : undefined, error };
}

/** Ray's dashboard and Grafana, where a guard stands before them. */
export function ToolButtons({ entering }: { entering: Entering }) {
  const tools = useQuery(queries.tools);
  return (tools.data?.results ?? []).map((tool: Tool) => (
    <Button
      key={tool.name}
      icon={<Icon name="external" size={18} />}
      busy={entering.waitsFor === tool.name}
      onClick={() => entering.enter(tool.name)}
    >
      {tool.title}
    </Button>
  ));
}

export function ToolNews({ entering }: { entering: Entering }) {
  return entering.error ? <Failure problem={entering.error} what="The guard was not entered" /> : null;
}
