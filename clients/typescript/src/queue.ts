import { completeEvent, jsonBytes, merge, mergeKey, ProgressEventError } from "./event.js";
import type { ProgressEvent, ProgressInput, QueueRecord } from "./event.js";
import { backoff, classify } from "./retry.js";
import type { EventResult, Verdict } from "./retry.js";
import { openStore } from "./store.js";
import type { Durability, Store, StoreTransaction } from "./store.js";

/** A token, or a function that returns the one that is valid now. */
export type TokenSource = string | (() => string | Promise<string>);

/** An event that the queue has given up, or that the server keeps in its quarantine. */
export interface Drop {
  event: ProgressEvent;
  /** `overflow`, `expired`, `refused`, or the server's `rejected`, `conflict`, `quarantined`. */
  reason: "overflow" | "expired" | "refused" | "rejected" | "conflict" | "quarantined";
  /** The HTTP status where the request was refused. */
  httpStatus?: number;
  /** The server's answer for this event. */
  result?: EventResult;
}

export interface QueueOptions {
  /** The URL of the server, such as `https://homeroom.example.org`. */
  endpoint: string;
  /** The learner. Each learner has a storage of their own, and only their token sends from it. */
  userId: string;
  token: TokenSource;
  /** Called when the server asks for another token (401, 403): pass it to `setToken`. */
  onAuthRequired?: (status: number) => void;
  /** Called for every event that is given up. */
  onDrop?: (drop: Drop) => void;
}

export interface QueueStatus {
  /** Events that the server has not confirmed, of all tabs. */
  pending: number;
  /** Events that this page has given up; `deadLetters` has the last ones of all pages. */
  lostCount: number;
  /** Where the events are; undefined until the first one is. */
  durability: Durability | undefined;
  /** `leader`: of all tabs, this one sends. */
  leader: boolean;
  state: "idle" | "waiting" | "sending" | "offline" | "backoff" | "auth" | "closed";
}

/** An event on its way into the storage. */
interface Pending {
  event: ProgressEvent;
  /** Merged into the record that `#open` has under this key. */
  key?: string | undefined;
  /** Its key in localStorage, if it was written there when the page was left. */
  journal?: string;
  resolve?: () => void;
  reject?: (error: unknown) => void;
}

const MAX_RECORDS = 1_000;
const MAX_STORED_BYTES = 2_097_152;
const SAFE_RECORDS = 256; // 8 KiB each at most
const MAX_DEAD = 50;
const MAX_BATCH = 100;
const MAX_BODY_BYTES = 49_152;
const MAX_IN_FLIGHT_BYTES = 57_344;
const FLUSH_RECORDS = 10;
const FLUSH_MS = 5_000;
const TIMEOUT_MS = 15_000;
const PROBE_MS = 60_000;
const LONGEST_WAIT_MS = 1_000_000;
const TTL_MS = 2_592_000_000;
const INDEXED: Durability = "indexeddb";
const PATH = "/api/progress/enhanced-update";

/** A wait that is over; also one so long that the device's clock must have been moved. */
const isOver = (until: number, now: number) => until <= now || until > now + LONGEST_WAIT_MS;

/** What is in quarantine is with the server. */
const isLost = (drop: Drop) => drop.reason != "quarantined";

const fresh = (event: ProgressEvent): QueueRecord => ({ event, attempts: 0, notBefore: 0 });

const subjectOf = (token: string): string | undefined => {
  try {
    return JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))).sub;
  } catch {
    return undefined; // no JWT
  }
};

/**
 * Takes the progress events of one learner, keeps them until the server has them, and sends each so
 * that it counts once.
 */
export class ClientProgressQueue {
  readonly endpoint: string;
  readonly userId: string;
  #options: QueueOptions;
  #token: TokenSource;
  #knownToken = "";
  #name: string;
  #store: Promise<Store>;
  #pending: Pending[] = [];
  #writing: Pending[] = [];
  #committing: Promise<void> | undefined;
  /** The ids of records that may still change. */
  #open = new Map<string, string>();
  /** Part of the keys of `#open`: counts what no later event may be merged across. */
  #epoch = 0;
  /** Records of this tab as they are stored: what can be sent when there is no time to read. */
  #mine = new Map<string, QueueRecord>();
  /** The bytes of events that are being sent. */
  #inFlight = new Map<string, number>();
  /** The fraction of a second that is not reported yet. */
  #remainder = 0;
  #limit = MAX_BATCH;
  #sending: Promise<void> | undefined;
  #again = false;
  #blockedUntil = 0;
  /** The server itself has asked for the wait. */
  #isAsked = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #channel: BroadcastChannel;
  #release: (() => void) | undefined;
  #abort = new AbortController();
  #listeners = new Set<() => void>();
  #status: QueueStatus = {
    pending: 0,
    lostCount: 0,
    durability: undefined,
    leader: false,
    state: "idle",
  };

  constructor(options: QueueOptions) {
    this.#options = options;
    this.endpoint = options.endpoint.replace(/\/+$/, "");
    this.userId = options.userId;
    this.#token = options.token;
    this.#name = `homeroom:${this.endpoint}:${this.userId}`;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }: MessageEvent<string[] | undefined>) => {
      if (!data) return void this.#send();
      for (const id of data) this.#mine.delete(id);
      void this.#run(async () => {});
    };
    const ended = this.#abort; // an AbortController is an object with a signal
    addEventListener("online", () => void this.flush(), ended);
    addEventListener("pagehide", () => {
      this.#leave();
      this.#release?.(); // a page that holds a lock is not kept for the back button
    }, ended);
    addEventListener("pageshow", (e) => e.persisted && this.#lead(), ended);
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState == "hidden") this.#leave();
    }, ended);
    this.#store = openStore(this.#name);
    void this.#absorb();
    this.#lead();
  }

  /** The state of the queue; a new object after each change. */
  get status(): QueueStatus {
    return this.#status;
  }

  /** Call `listener` after each change of `status`; return what ends it. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /**
   * Store an event; resolves once it is stored and survives the end of the page. Throws
   * `ProgressEventError` at once for an event that can't be sent.
   */
  enqueue(input: ProgressInput): Promise<void> {
    if (this.#status.state == "closed") throw new ProgressEventError("closed", "It is closed.");
    const event = completeEvent(input, this.userId);
    if (event.timeSpent != null) {
      this.#remainder += event.timeSpent;
      event.timeSpent = Math.floor(this.#remainder + 1e-9);
      this.#remainder -= event.timeSpent;
    }
    const merges = mergeKey(event);
    const key = merges && this.#epoch + merges;
    if (event.eventType == "progress_reset") this.#epoch++;
    return new Promise((resolve, reject) => {
      this.#pending.push({ event, key, resolve, reject });
      void this.#commit();
    });
  }

  /** Send what waits, now. Only the leading tab sends; in others it is asked to. */
  async flush(): Promise<void> {
    await this.#commit();
    if (!this.#isAsked) this.#blockedUntil = -1;
    await this.#kick();
  }

  /** Go on with another token, after `onAuthRequired`. */
  setToken(token: TokenSource): void {
    this.#token = token;
    this.#knownToken = "";
    if (this.#status.state == "auth") this.#rest();
    // The leading tab may have an expired one.
    if (this.#status.leader) void this.#send();
    else this.#lead(true); // and what waits is sent
  }

  /** Events that were given up: the last 50. */
  deadLetters(): Promise<Drop[]> {
    return this.#run((tx) => tx.list<Drop>("d/"));
  }

  /** Send what can be sent at once and end: after a sign-out, for example. What waits is kept. */
  async close(): Promise<void> {
    await this.#commit();
    this.#leave();
    this.#update({ state: "closed" });
    clearTimeout(this.#timer);
    this.#abort.abort();
    await this.#sending;
    this.#release?.();
    this.#channel.close();
  }

  #update(change: Partial<QueueStatus>): void {
    const status = { ...this.#status, ...change };
    if (/idle|waiting/.test(status.state)) status.state = status.pending ? "waiting" : "idle";
    if (this.#status.state == "closed") status.state = "closed";
    this.#status = status;
    for (const listener of this.#listeners) listener();
  }

  #rest(): void {
    this.#update({ state: "idle" });
  }

  /** Run a transaction; where the storage fails, in the same one opened again, then in the next. */
  async #run<T>(work: (tx: StoreTransaction) => Promise<T>): Promise<T> {
    for (let skip = 0; ; skip++) {
      const store = await this.#store;
      try {
        const [result, pending] = await store.run(
          async (tx) => [await work(tx), await tx.count("r/")] as const,
        );
        this.#update({ pending, durability: store.durability });
        return result;
      } catch (error) {
        if (store.durability == "memory") throw error;
        this.#store = openStore(this.#name, skip);
      }
    }
  }

  /** Take over what earlier pages left in localStorage, when they ended or had nothing better. */
  async #absorb(): Promise<void> {
    await this.#run(async () => {});
    try {
      for (const key of Object.keys(localStorage)) {
        if (!key.startsWith(this.#name + ":r/") || this.#status.durability != INDEXED) continue;
        this.#pending.push({ event: JSON.parse(localStorage[key]).event, journal: key });
      }
    } catch {
      // No localStorage: nothing is there.
    }
    await this.#commit();
    await this.#takeOver();
  }

  /** Send at once what other tabs and earlier pages have left. */
  async #takeOver(): Promise<void> {
    await this.#run(async () => {});
    const { pending } = this.#status;
    if (pending > this.#mine.size || (pending && !this.#timer)) await this.#kick();
  }

  #commit(): Promise<void> {
    return (this.#committing ??= this.#writeAll().then(() => {
      this.#committing = undefined;
      if (this.#pending.length) return this.#commit(); // what came after the last look
    }));
  }

  async #writeAll(): Promise<void> {
    await undefined; // what one task enqueues is one transaction
    while (this.#pending.length) {
      const batch = (this.#writing = this.#pending.splice(0));
      try {
        const { stored, drops } = await this.#run((tx) => this.#write(tx, batch));
        for (const [{ event }, key] of stored) if (key) this.#open.set(key, event.id);
        for (const [record] of stored) this.#mine.set(record.event.id, record);
        this.#report(drops);
        for (const { journal, resolve } of batch) {
          if (journal && this.#status.durability == INDEXED) localStorage.removeItem(journal);
          resolve?.();
        }
        if (this.#mine.size - this.#inFlight.size >= FLUSH_RECORDS) void this.#kick();
        else if (!this.#timer && this.#status.state != "closed") this.#wake(FLUSH_MS);
      } catch (error) {
        for (const { reject } of batch) reject?.(error);
      } finally {
        this.#writing = [];
      }
    }
  }

  /** Store events, merged where their record was never sent. Changes nothing but the storage. */
  async #write(tx: StoreTransaction, batch: Pending[]) {
    const stored: [QueueRecord, string | undefined][] = [];
    const open = new Map(this.#open);
    for (const { event, key } of batch) {
      if (await tx.get("r/" + event.id)) continue;
      const record = await tx.get<QueueRecord>("r/" + open.get(key!));
      const next = (record && !record.attempts && merge(record, event)) || fresh(event);
      if (key) open.set(key, next.event.id);
      tx.put("r/" + next.event.id, next);
      stored.push([next, key]);
    }
    const drops: Drop[] = [];
    // So few can't have too many bytes, and none is read.
    if (this.#status.pending + batch.length > SAFE_RECORDS) await this.#makeRoom(tx, drops);
    return { stored, drops };
  }

  /** Drop heartbeats and progress: first what a newer event repeats, then the oldest. */
  async #makeRoom(tx: StoreTransaction, drops: Drop[]): Promise<void> {
    const records = await tx.list<QueueRecord>("r/");
    let bytes = records.reduce((sum, { event }) => sum + jsonBytes(event), 0);
    let count = records.length;
    const newest = new Map(records.map((record) => [mergeKey(record.event), record]));
    const isNewest = (record: QueueRecord) => +(newest.get(mergeKey(record.event)) == record);
    const victims = records
      .filter(({ event: { id, eventType } }) => /^h|_progress/.test(eventType) && !this.#inFlight.has(id))
      .sort((one, other) => isNewest(one) - isNewest(other));
    for (const record of victims) {
      if (bytes <= MAX_STORED_BYTES && count <= MAX_RECORDS) break;
      bytes -= jsonBytes(record.event);
      count--;
      drops.push({ event: record.event, reason: "overflow" });
    }
    await this.#bury(tx, drops);
  }

  /** Move events to the dead letters. */
  async #bury(tx: StoreTransaction, drops: Drop[]): Promise<void> {
    for (const drop of drops) {
      tx.delete("r/" + drop.event.id);
      if (isLost(drop)) tx.put("d/" + drop.event.id, drop);
    }
    if (!drops.length) return;
    const dead = await tx.list<Drop>("d/");
    for (const { event } of dead.slice(0, -MAX_DEAD)) tx.delete("d/" + event.id);
  }

  #report(drops: Drop[]): void {
    for (const drop of drops) {
      this.#mine.delete(drop.event.id);
      queueMicrotask(() => this.#options.onDrop?.(drop)); // what it throws stops nothing here
    }
    this.#update({ lostCount: this.#status.lostCount + drops.filter(isLost).length });
  }

  #wake(wait: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#kick(), wait);
  }

  async #kick(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#status.leader) await this.#send();
    else if (this.#status.pending) this.#channel.postMessage(undefined);
  }

  /** Ask for the lead; it comes when the leading tab ends. Without Web Locks, every tab leads. */
  #lead(steal = false): void {
    const { locks } = navigator;
    const start = () => {
      this.#update({ leader: true });
      void this.#takeOver();
    };
    if (!locks) return start();
    let isReleased = false;
    locks
      .request(this.#name, steal ? { steal } : this.#abort, () => {
        start();
        return new Promise<void>((resolve) => {
          this.#release = () => {
            isReleased = true;
            resolve();
          };
        });
      })
      .catch(() => {}) // stolen by a tab with a newer token, or closed
      .finally(() => {
        this.#update({ leader: false });
        this.#rest();
        if (!isReleased && !this.#abort.signal.aborted) this.#lead();
      });
  }

  #send(): Promise<void> {
    this.#again = true;
    return this.#sending ?? this.#alone(this.#sendAll());
  }

  /** Let nothing else be sent meanwhile. */
  #alone(work: Promise<void>): Promise<void> {
    return (this.#sending = work.finally(() => {
      this.#sending = undefined;
      if (this.#again) void this.#send();
    }));
  }

  async #sendAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      while (this.#status.leader && !/auth|closed/.test(this.#status.state)) {
        const now = Date.now();
        if (!isOver(this.#blockedUntil, now)) {
          this.#update({ state: navigator.onLine === false ? "offline" : "backoff" });
          this.#wake(this.#blockedUntil - now);
          break;
        }
        const batch = await this.#run((tx) => this.#claim(tx, now));
        if (batch.length) {
          this.#update({ state: "sending" });
          await this.#deliver(batch);
        } else if (isOver(this.#blockedUntil, now)) {
          this.#block(0);
          this.#rest();
          break;
        }
      }
    }
  }

  #block(until: number, isAsked = false): void {
    this.#blockedUntil = until;
    this.#isAsked = isAsked;
  }

  get #bytesInFlight(): number {
    return [...this.#inFlight.values()].reduce((sum, size) => sum + size, 64);
  }

  /** Take the oldest records for one request. They never change again. */
  async #claim(tx: StoreTransaction, now: number): Promise<QueueRecord[]> {
    const records = await tx.list<QueueRecord>("r/", MAX_BATCH);
    const due = records.filter(({ notBefore }) => this.#blockedUntil < 0 || isOver(notBefore, now));
    if (records[0] && !due.length) this.#block(records[0].notBefore);
    const batch = this.#fill(due, MAX_BODY_BYTES);
    for (const record of batch) tx.put("r/" + record.event.id, record);
    return batch;
  }

  /** Return the first records that fit into one request, or the first one alone. */
  #fill(records: QueueRecord[], room: number): QueueRecord[] {
    let count = 0;
    for (const { event } of records) {
      room -= jsonBytes(event) + 1;
      if (count && (room < 0 || count >= this.#limit)) break;
      count++;
    }
    return records.slice(0, count).map((record) => ({ ...record, attempts: record.attempts + 1 }));
  }

  async #deliver(batch: QueueRecord[], isLeaving = false): Promise<void> {
    // Whatever becomes of the request, these records never change again.
    this.#epoch++;
    this.#open.clear();
    for (const { event } of batch) this.#inFlight.set(event.id, jsonBytes(event));
    const verdict = await this.#post(batch.map(({ event }) => event), isLeaving);
    for (const { event } of batch) this.#inFlight.delete(event.id);
    await this.#settle(batch, verdict);
  }

  async #post(events: ProgressEvent[], isLeaving: boolean): Promise<Verdict> {
    const url = this.endpoint + PATH;
    const sentAt = new Date().toISOString();
    try {
      const known = isLeaving && this.#knownToken;
      const token = known || (typeof this.#token == "string" ? this.#token : await this.#token());
      this.#knownToken = token;
      if (![undefined, this.userId].includes(subjectOf(token))) return { kind: "auth", status: 403 };
      if (isLeaving && !("keepalive" in Request.prototype)) {
        // text/plain: a beacon with JSON would need a preflight, and never leaves a closed page.
        navigator.sendBeacon(url, JSON.stringify({ token, sentAt, events }));
        return { kind: "retry" }; // whether it has arrived is not known
      }
      const response = await fetch(url, {
        method: "POST",
        headers: { authorization: "Bearer " + token, "content-type": "application/json" },
        body: JSON.stringify({ sentAt, events }),
        credentials: "omit",
        // It outlives the page; browsers allow 64 KiB of such bodies at a time.
        keepalive: this.#bytesInFlight <= MAX_IN_FLIGHT_BYTES,
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      // The body is always read: until then it counts towards those 64 KiB.
      const answer = await response.json().catch(() => {});
      return classify(response.status, answer, response.headers.get("retry-after"));
    } catch {
      return { kind: "retry" };
    }
  }

  async #settle(batch: QueueRecord[], verdict: Verdict): Promise<void> {
    const now = Date.now();
    const drops: Drop[] = [];
    const done: string[] = [];
    const kept: QueueRecord[] = [];
    let { kind } = verdict;
    let wait = 0;
    if (verdict.kind == "delivered") {
      this.#limit = MAX_BATCH;
      this.#block(0);
      for (const record of batch) {
        const { id, eventType } = record.event;
        const result = verdict.results.find((each) => each.id == id);
        if (!result || /accepted|duplicate/.test(result.status)) done.push(id);
        else if (result.code == "forbidden" && eventType != "progress_reset") {
          kind = "auth"; // the token is another person's
          kept.push(record);
        } else drops.push({ event: record.event, reason: result.status as Drop["reason"], result });
      }
    } else if (batch.length < 2 && verdict.kind == "refused") {
      drops.push({ event: batch[0]!.event, reason: "refused", httpStatus: verdict.status });
    } else if (verdict.kind == "retry") {
      // Without a network one request a minute finds out whether that is true.
      wait = verdict.after ?? (navigator.onLine === false ? PROBE_MS : backoff(batch[0]!.attempts));
      this.#block(now + wait, verdict.after != null);
      for (const record of batch) {
        if (record.event.timestamp > now - TTL_MS) kept.push(record);
        else drops.push({ event: record.event, reason: "expired" });
      }
    } else {
      if (kind != "auth") this.#limit = batch.length >> 1;
      kept.push(...batch);
    }
    await this.#run(async (tx) => {
      for (const id of done) tx.delete("r/" + id);
      for (const record of kept) {
        tx.put("r/" + record.event.id, { ...record, notBefore: now + wait });
      }
      await this.#bury(tx, drops);
    });
    for (const id of done) this.#mine.delete(id);
    this.#channel.postMessage([...done, ...drops.map(({ event }) => event.id)]);
    this.#report(drops);
    if (kind == "auth") {
      this.#update({ state: "auth" });
      const { status = 403 } = verdict as { status?: number };
      queueMicrotask(() => this.#options.onAuthRequired?.(status));
    } else this.#rest();
  }

  /** The page may end now: write down what is not stored yet, and send what is. */
  #leave(): void {
    const writing = new Set(this.#writing.map(({ key }) => this.#open.get(key!)));
    try {
      // What may be merged at this moment has no body that is certain: the storage has it, or not.
      for (const each of [...this.#writing.filter(({ key }) => !key), ...this.#pending]) {
        delete each.key; // from here on it is an event of its own, wherever it is
        each.journal = `${this.#name}:r/${each.event.id}`;
        localStorage[each.journal] = JSON.stringify(fresh(each.event));
      }
    } catch {
      // No room or no localStorage: only what was awaited is safe.
    }
    if (!this.#status.leader) return void this.#kick();
    if (/auth|closed/.test(this.#status.state) || !isOver(this.#blockedUntil, Date.now())) return;
    const records = [...this.#mine.values()].filter(
      ({ event: { id } }) => !writing.has(id) && !this.#inFlight.has(id),
    );
    const batch = this.#fill(records, MAX_IN_FLIGHT_BYTES - this.#bytesInFlight);
    if (!batch.length) return;
    const sent = this.#deliver(batch, true);
    if (!this.#sending) void this.#alone(sent);
  }
}
