import { ButtonAnchor } from "../../../components/Button.tsx";
import { Icon } from "../../../components/Icon.tsx";
import { Commands } from "../Commands.tsx";

/** The ledger's own page tells the state of every part. */
export function StatusLink() {
  return (
    <ButtonAnchor href="/status" icon={<Icon name="external" size={18} />}>
      Parts
    </ButtonAnchor>
  );
}

export function OperationsCommands() {
  return (
    <Commands
      commands={[
        { does: "The state of every part and process", text: "gfe status" },
        { does: "Let one of your own machines join", text: "gfe admin invite --name NAME" },
        { does: "Make the next key that tokens are signed with", text: "gfe admin rotate-keys" },
        { does: "Load a model into a node's memory", text: "gfe admin models load MODEL --node NODE" },
      ]}
    >
      Some powers no API has, so that no stolen sign-in has them either. They are used on the platform's own machine.
    </Commands>
  );
}
