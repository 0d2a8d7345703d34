import { Problem } from "../../../client/problem.ts";
import { amountOf, isZero, micros, typed } from "../../../money.ts";

/** What somebody's credits are: a gift, deposited, earned. */
export type Pocket = "promo" | "paid" | "earned";
export type Direction = "give" | "take";

export const POCKETS: readonly { value: Pocket; name: string }[] = [
  { value: "promo", name: "Gift" },
  { value: "paid", name: "Deposited" },
  { value: "earned", name: "Earned" },
];

export function pocketName(pocket: string): string {
  return POCKETS.find((one) => one.value === pocket)?.name ?? pocket;
}

/** Read what was typed, with the sign of its direction. Throws a Problem at the field `amount` where it is no amount. */
export function signed(text: string, direction: Direction): string {
  const amount = typed(text);
  if (amount === undefined || amount.startsWith("-") || isZero(amount)) {
    throw new Problem(400, { detail: "Not an amount.", errors: { amount: ["Write an amount above zero, e.g. 25.00."] } });
  }
  return direction === "give" ? amount : amountOf(-micros(amount));
}
