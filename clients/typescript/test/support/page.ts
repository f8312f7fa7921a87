import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { vi } from "vitest";
import { ClientProgressQueue } from "../../src/index.js";
import type { QueueOptions } from "../../src/index.js";

interface Request {
  name: string;
  page: number;
  run: () => Promise<unknown>;
  reject: (error: unknown) => void;
}

/** Web Locks of pages that can be killed; each lock goes to who asked first. */
class Locks {
  #waiting: Request[] = [];
  #held = new Map<string, Request>();
  page = 0;

  request(name: string, ...rest: unknown[]): Promise<unknown> {
    const run = rest.pop() as () => Promise<unknown>;
    const { steal, signal } = (rest[0] ?? {}) as LockOptions;
    return new Promise((resolve, reject) => {
      const request = { name, page: this.page, run: () => Promise.resolve(run()).then(resolve, reject), reject };
      signal?.addEventListener("abort", () => {
        this.#waiting = this.#waiting.filter((each) => each != request);
        reject(signal.reason);
      });
      if (steal) {
        this.#held.get(name)?.reject(new DOMException("stolen", "AbortError"));
        this.#held.delete(name);
        this.#waiting.unshift(request);
      } else this.#waiting.push(request);
      queueMicrotask(() => this.#next());
    });
  }

  #next(): void {
    for (const request of [...this.#waiting]) {
      if (this.#held.has(request.name)) continue;
      this.#waiting = this.#waiting.filter((each) => each != request);
      this.#held.set(request.name, request);
      void request.run().then(() => {
        if (this.#held.get(request.name) == request) this.#held.delete(request.name);
        this.#next();
      });
    }
  }

  kill(page: number): void {
    this.#waiting = this.#waiting.filter((each) => each.page != page);
    for (const [name, request] of this.#held) if (request.page == page) this.#held.delete(name);
    this.#next();
  }
}

let browsers = 0;

/** A browser with one profile: its pages share storage, locks and a clock that tests move. */
export class Browser {
  readonly locks = new Locks();
  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  readonly window = new EventTarget();
  /** Of its own, so that pages of an earlier test reach neither storage nor server. */
  readonly endpoint = `https://${++browsers}.example.org`;
  onLine = true;
  #opened: ClientProgressQueue[] = [];

  constructor() {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
    vi.stubGlobal("indexedDB", new IDBFactory());
    vi.stubGlobal("localStorage", Object.defineProperties({}, {
      setItem: { value(this: Record<string, string>, key: string, text: string) { this[key] = text; } },
      getItem: { value(this: Record<string, string>, key: string) { return this[key] ?? null; } },
      removeItem: { value(this: Record<string, string>, key: string) { delete this[key]; } },
    }));
    const browser = this;
    vi.stubGlobal("navigator", { locks: this.locks, get onLine() { return browser.onLine; } });
    vi.stubGlobal("document", this.document);
    vi.stubGlobal("addEventListener", this.window.addEventListener.bind(this.window));
  }

  /** Open a page with a queue; its token is `page-<n>`. */
  open(options: Partial<QueueOptions> = {}): ClientProgressQueue {
    this.locks.page++;
    const queue = new ClientProgressQueue({
      endpoint: this.endpoint + "/",
      userId: "ada",
      token: `page-${this.locks.page}`,
      ...options,
    });
    this.#opened.push(queue);
    return queue;
  }

  /** Let time pass, with all that happens meanwhile. */
  async pass(milliseconds: number): Promise<void> {
    await vi.advanceTimersByTimeAsync(0);
    await settle();
    for (let left = milliseconds; left > 0; left -= 60_000) {
      await vi.advanceTimersByTimeAsync(Math.min(left, 60_000));
      await settle();
    }
  }

  async end(): Promise<void> {
    vi.useRealTimers();
    await settle();
    vi.unstubAllGlobals();
  }
}

/** Wait until storage and channels, whose work goes through the event loop, are quiet. */
export async function settle(turns = 200): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
