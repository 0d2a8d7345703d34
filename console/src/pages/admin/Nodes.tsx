import { Page } from "../../shell/Page.tsx";
import { Commands } from "./Commands.tsx";
import { NodesHere } from "./nodes/NodesHere.tsx";
import { Suspects } from "./nodes/Suspects.tsx";

/** All nodes: what they do, and what was found about them. */
export function Nodes() {
  return (
    <Page title="Nodes" lead="What each node does, and what audits found.">
      <Suspects />
      <NodesHere />
      <Commands
        commands={[
          { does: "Let one of your own machines join", text: "gfe admin invite --name NAME" },
          { does: "Load a model into a node's memory", text: "gfe admin models load MODEL --node NODE" },
          { does: "Give a model's memory back", text: "gfe admin models unload MODEL --node NODE" },
          { does: "Let a node fetch a model", text: "gfe admin models pull MODEL --node NODE" },
        ]}
      >
        What joins can run code in the cluster, so only the platform's own machine invites. Models are moved from there too, because it
        takes a while and tells its steps.
      </Commands>
    </Page>
  );
}
