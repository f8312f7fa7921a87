/** What follows from an answer of the server, or from none. */
export type Verdict =
  | { kind: "delivered"; results: EventResult[] }
  /** Send the same again later; `after` is the server's own wait in milliseconds. */
  | { kind: "retry"; after?: number | undefined }
  /** The token is missing, expired, or may not send progress. */
  | { kind: "auth"; status: number }
  /** The batch is too large, or an event of it spoils it: send fewer to find out which. */
  | { kind: "refused"; status: number };

/** The result of an event that was not plainly accepted. */
export interface EventResult {
  id: string | null;
  status: "accepted" | "duplicate" | "conflict" | "quarantined" | "rejected";
  code?: string;
  message?: string;
}

const MAX_BACKOFF_MS = 300_000;
const MAX_RETRY_AFTER_MS = 900_000;

/** Return the wait after `attempts` failures: full jitter below 1 s, 2 s, 4 s ... 5 min. */
export function backoff(attempts: number): number {
  return Math.random() * Math.min(MAX_BACKOFF_MS, 1_000 * 2 ** Math.max(0, attempts - 1));
}

/**
 * Return the wait that a `Retry-After` asks for (seconds or an HTTP date), at most 15 minutes and
 * up to a tenth longer, so that clients do not come back together.
 */
export function retryAfter(header: string | null): number | undefined {
  const wait = +header! >= 0 ? +header! * 1_000 : Date.parse(header!) - Date.now();
  return header && wait >= 0
    ? Math.min(MAX_RETRY_AFTER_MS, wait) * (1 + Math.random() / 10)
    : undefined;
}

/** Faults of the address or of a proxy: they say nothing about the events. */
const ELSEWHERE = [404, 405, 407, 408, 421, 425, 429];

/**
 * Classify an answer to a batch. `body` is the parsed JSON, or undefined.
 *
 * A 200 counts as delivery only if it is Homeroom's: a sign-in page of a proxy or of a hotel is a
 * 200 too.
 */
export function classify(
  status: number,
  body: { results?: unknown } | undefined,
  header: string | null,
): Verdict {
  if (status >= 400 && status < 500 && !ELSEWHERE.includes(status)) {
    return { kind: status == 401 || status == 403 ? "auth" : "refused", status };
  }
  if (status < 300 && Array.isArray(body?.results)) {
    return { kind: "delivered", results: body.results };
  }
  return { kind: "retry", after: retryAfter(header) };
}
