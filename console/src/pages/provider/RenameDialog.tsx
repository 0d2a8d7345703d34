import { useState } from "react";
import { asProblem } from "../../client/problem.ts";
import { Confirm } from "../../components/Confirm.tsx";
import { Field } from "../../components/Field.tsx";
import type { Changing } from "./changing.ts";
import type { OwnNode } from "./queries.ts";

const LONGEST = 100; // of the API

/** Asks for a machine's new name. */
export function RenameDialog({ node, change, onClose }: { node: OwnNode; change: Changing; onClose: () => void }) {
  const [name, setName] = useState(node.name);
  const problem = change.error ? asProblem(change.error) : undefined;
  const wrong = name.trim() === "" ? "A machine needs a name." : problem?.field("name");
  return (
    <Confirm
      isOpen
      onClose={onClose}
      title="Rename this machine"
      action="Rename"
      busy={change.isPending}
      problem={problem?.field("name") ? undefined : problem}
      onConfirm={() => wrong !== "A machine needs a name." && change.mutate({ name: name.trim() }, { onSuccess: onClose })}
    >
      <Field
        label="Name"
        required
        maxLength={LONGEST}
        value={name}
        error={wrong}
        data-autofocus
        onChange={(event) => setName(event.target.value)}
        onFocus={(event) => event.target.select()}
        hint="You see it here, and consumers whose jobs ran on the machine."
      />
    </Confirm>
  );
}
