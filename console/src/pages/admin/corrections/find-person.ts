import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Problem } from "../../../client/problem.ts";
import type { Person } from "../queries.ts";

const MOST = 100;

/** Find the account of exactly this name, in small letters or large. Throws a Problem at the field `user` where there is none. */
export async function findPerson(name: string): Promise<Person> {
  const wanted = name.trim();
  const page = wanted ? await answer(ledger.GET("/api/admin/users/", { params: { query: { q: wanted, limit: MOST } } })) : { results: [] };
  const found = page.results.find((person) => person.username.toLowerCase() === wanted.toLowerCase());
  if (found) return found;
  throw new Problem(400, { detail: "No such account.", errors: { user: ["There is no account of this name."] } });
}
