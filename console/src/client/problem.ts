/** What went wrong with a call, in one class: the API's problem+json (RFC 9457), or a network that does not answer. */

export type FieldErrors = Record<string, string[]>;

interface Said {
  title?: string;
  detail?: string;
  code?: string;
  hint?: string;
  errors?: FieldErrors | null;
  retry_after_s?: number;
  /** Of OpenAI's shape, on its routes. */
  error?: string | { message?: string; code?: string | null };
}

export class Problem extends Error {
  override readonly name = "Problem";
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  readonly title: string;
  /** The API's word for it, e.g. `insufficient_funds`; `unreachable` when no answer came. */
  readonly code: string;
  readonly hint: string | undefined;
  /** Texts by field, for forms. */
  readonly fields: FieldErrors;
  /** Seconds until it is worth trying again, where the API says so. */
  readonly retryAfterS: number | undefined;
  /** The whole body: some problems carry more, e.g. `available` and `required`. */
  readonly body: unknown;

  constructor(status: number, said: Said, retryAfterS?: number, body: unknown = said) {
    super(said.detail ?? said.title ?? usual(status));
    this.status = status;
    this.title = said.title ?? usual(status);
    this.code = said.code ?? (status === 0 ? "unreachable" : "http_error");
    this.hint = said.hint;
    this.fields = said.errors ?? {};
    this.retryAfterS = retryAfterS ?? said.retry_after_s;
    this.body = body;
  }

  /** The first text about a field. */
  field(name: string): string | undefined {
    return this.fields[name]?.[0];
  }

  /** Whether the same call may work a little later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Make a problem of an answer that is not good and its body, parsed or not. */
export function problemOf(response: Response, body: unknown): Problem {
  const said = typeof body === "object" && body !== null ? (body as Said) : {};
  const inner = typeof said.error === "object" ? said.error : undefined;
  const whole: Said = inner ? { detail: inner.message ?? usual(response.status), code: inner.code ?? "http_error" } : said;
  const header = response.headers.get("Retry-After");
  const seconds = header !== null && /^\d+$/.test(header) ? Number(header) : undefined;
  return new Problem(response.status, whole, seconds, body);
}

/** The problem of a call to which nobody answered. */
export function unreachable(cause: unknown): Problem {
  const problem = new Problem(0, { title: "No answer", detail: "The platform does not answer. Check your connection, then try again." });
  problem.cause = cause;
  return problem;
}

/** Whatever was thrown, as a problem. */
export function asProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  const problem = new Problem(-1, {
    title: "Something went wrong",
    detail: "This page made a mistake. Reload it, then try again.",
    code: "defect",
  });
  problem.cause = thrown;
  return problem;
}

function usual(status: number): string {
  if (status === 0) return "No answer";
  if (status === 404) return "Not found";
  if (status === 503) return "Not available now";
  return status >= 500 ? "Something went wrong on our side" : `The platform refused (${status})`;
}
