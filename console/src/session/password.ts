/**
 * What the ledger asks of a password, as far as a page can tell while somebody types (ledger/identity/passwords.py decides; it also refuses
 * what is easy to guess, which only it can say).
 */

const MIN_LENGTH = 12;
const SIMILAR_LENGTH = 4;

export interface Rule {
  text: string;
  isKept: boolean;
}

export function rulesFor(password: string, username: string, email: string): Rule[] {
  const own = [username, email, email.split("@")[0] ?? ""];
  return [
    { text: `At least ${MIN_LENGTH} characters`, isKept: [...password].length >= MIN_LENGTH },
    { text: "Not digits alone", isKept: password !== "" && !/^\p{Decimal_Number}+$/u.test(password) },
    { text: "Not like your username or e-mail", isKept: password !== "" && !own.some((word) => isSimilar(password, word)) },
  ];
}

/** Whether one contains the other, when letters and digits alone count. */
function isSimilar(password: string, own: string): boolean {
  const [first, second] = [letters(password), letters(own)];
  const holds = second.includes(first) || first.includes(second);
  return second.length >= SIMILAR_LENGTH && first !== "" && holds && first.length < 2 * second.length + MIN_LENGTH;
}

function letters(text: string): string {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]/gu, "");
}
