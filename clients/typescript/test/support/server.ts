import { vi } from "vitest";
import type { ProgressEvent } from "../../src/index.js";

type Mode = "ok" | "down" | "lost-answer" | 200 | 401 | 404 | 413 | 429 | 503;

/** An ingest endpoint by the contract: a repeat is a duplicate, another body a conflict. */
export class Server {
  mode: Mode = "ok";
  retryAfter: string | undefined;
  /** Tokens of pages that have ended: their requests are never answered. */
  dead = new Set<string>();
  /** The bodies of the requests that arrived. */
  requests: ProgressEvent[][] = [];
  stored = new Map<string, ProgressEvent>();
  conflicts: string[] = [];
  /** Statuses by the id of an event. */
  results = new Map<string, { status: string; code?: string }>();

  constructor(endpoint: string) {
    vi.stubGlobal("fetch", (url: string, init: RequestInit) =>
      url.startsWith(endpoint) ? this.#answer(init) : new Promise(() => {}),
    );
  }

  async #answer(init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.dead.has(headers.get("authorization")!)) return new Promise(() => {});
    const { mode } = this;
    if (mode == "down") throw new TypeError("Failed to fetch");
    const { events } = JSON.parse(init.body as string) as { events: ProgressEvent[] };
    this.requests.push(events);
    if (mode == 200) return new Response("<html>Sign in to the Wi-Fi</html>");
    if (typeof mode == "number" && !(mode == 413 && events.length == 1)) {
      const extra = this.retryAfter ? { "retry-after": this.retryAfter } : {};
      return Response.json({ status: mode }, { status: mode, headers: extra });
    }
    const counts: Record<string, number> = {
      accepted: 0, duplicate: 0, conflict: 0, quarantined: 0, rejected: 0,
    };
    const results = [];
    for (const event of events) {
      const known = this.stored.get(event.id);
      let result = this.results.get(event.id);
      if (!result && known) {
        const isSame = JSON.stringify(known) == JSON.stringify(event);
        if (!isSame) this.conflicts.push(event.id);
        result = { status: isSame ? "duplicate" : "conflict" };
      }
      if (!result) this.stored.set(event.id, event);
      else results.push({ id: event.id, ...result });
      counts[result?.status ?? "accepted"]!++;
    }
    if (mode == "lost-answer") throw new TypeError("Failed to fetch");
    return Response.json({ ...counts, results });
  }

  /** Return the progress and the time of each chapter, by the events that count. */
  chapters(): Record<string, { progress: number; timeSpent: number }> {
    const chapters: Record<string, { progress: number; timeSpent: number }> = {};
    for (const event of this.stored.values()) {
      const chapter = (chapters[event.chapterId!] ??= { progress: 0, timeSpent: 0 });
      chapter.progress = Math.max(chapter.progress, event.progress ?? 0);
      chapter.timeSpent += event.timeSpent ?? 0;
    }
    return chapters;
  }
}
