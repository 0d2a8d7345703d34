import type { Person } from "../queries.ts";

const ROLES: Record<string, string> = { USER: "Consumer", PROVIDER: "Provider" };

/** What somebody is here for. */
export function RoleOf({ person }: { person: Pick<Person, "role" | "is_operator"> }) {
  return <>{person.is_operator ? "Operator" : (ROLES[person.role] ?? person.role)}</>;
}
