import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { queries } from "./queries.ts";

/** Who an id is; the id itself until that is known. */
export function UserName({ id }: { id: string }) {
  const { data } = useQuery(queries.user(id));
  if (data === undefined) return <code>{id}</code>;
  return (
    <Link to="/admin/users" search={{ q: data.username }} title={id}>
      {data.username}
    </Link>
  );
}
