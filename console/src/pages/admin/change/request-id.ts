const BYTES = 12;

/** Make the id that a change is sent with (`X-Request-Id`); the audit log keeps it, so that the change's lines can be found again. */
export function newRequestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(BYTES));
  return `console-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
