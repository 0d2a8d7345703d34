import { useQuery } from "@tanstack/react-query";
import { queries } from "../../queries.ts";

/** On a platform for development mails are files, unless a mail server is set. */
export function WhereMailsAre() {
  const { data: config } = useQuery(queries.config);
  if (config?.env !== "dev") return null;
  return (
    <>
      This platform is for development: without a mail server, <code>gfe dev mail</code> on its machine shows the mail.
    </>
  );
}
