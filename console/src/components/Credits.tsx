import { credits, figure } from "../money.ts";

interface Props {
  /** An amount as the API writes it. */
  amount: string;
  /** With a plus before what comes in. */
  signed?: boolean;
  /** Without the unit, where a column's heading or the text around says it. */
  bare?: boolean;
}

/** An amount of money. */
export function Credits({ amount, signed = false, bare = false }: Props) {
  return <span className="figures">{bare ? figure(amount, { signed }) : credits(amount, { signed })}</span>;
}
