import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ProgressEventError } from "../src/index.js";
import type { Drop, ProgressInput } from "../src/index.js";
import { Browser, settle } from "./support/page.js";
import { Server } from "./support/server.js";

let browser: Browser;
let server: Server;

beforeEach(() => {
  browser = new Browser();
  server = new Server(browser.endpoint);
});
afterEach(() => browser.end());

const watched = (extra: Partial<ProgressInput> = {}): ProgressInput => ({
  courseId: "c", chapterId: "c-1", eventType: "chapter_progress", progress: 10, timeSpent: 1, ...extra,
});
const quiz = (attemptId: string): ProgressInput => ({
  courseId: "c", chapterId: "c-1", eventType: "quiz_attempt", quiz: { attemptId, score: 1, maxScore: 2 },
});

test("a hundred updates of a chapter are one request with the maximum and the sum", async () => {
  const queue = browser.open();
  for (let n = 0; n < 100; n++) {
    void queue.enqueue(watched({ progress: (n * 37) % 100, timeSpent: 0.25 }));
    if (n % 10 == 0) await browser.pass(300);
  }
  await browser.pass(5_000);
  expect(server.requests.map((events) => events.length)).toEqual([1]);
  expect(server.chapters()).toEqual({ "c-1": { progress: 99, timeSpent: 25 } });
  expect(queue.status).toMatchObject({ pending: 0, lostCount: 0, state: "idle" });
});

test("ten events are sent at once, fewer after five seconds", async () => {
  const queue = browser.open();
  await browser.pass(1);
  for (let n = 0; n < 9; n++) await Promise.all([queue.enqueue(quiz(`a${n}`)), settle(5)]);
  await browser.pass(4_900);
  expect(server.requests).toEqual([]);
  await browser.pass(200);
  expect(server.requests.map((events) => events.length)).toEqual([9]);
  for (let n = 0; n < 10; n++) void queue.enqueue(quiz(`b${n}`));
  await browser.pass(1);
  expect(server.requests.map((events) => events.length)).toEqual([9, 10]);
});

test("events that are enqueued one after the other are all stored", async () => {
  const queue = browser.open();
  for (let n = 0; n < 20; n++) await queue.enqueue(quiz(`a${n}`));
  await browser.pass(6_000);
  expect(server.stored.size).toBe(20);
});

test("an idle queue has no timer", async () => {
  const queue = browser.open();
  void queue.enqueue(watched());
  await browser.pass(5_000);
  expect(queue.status.state).toBe("idle");
  expect(vi.getTimerCount()).toBe(0);
});

test("an event that was in flight when the page ended is sent again with its id", async () => {
  server.mode = "lost-answer";
  const first = browser.open();
  await Promise.all([first.enqueue(watched()), settle()]);
  await browser.pass(5_000);
  server.dead.add("Bearer page-1");
  browser.locks.kill(1);
  server.mode = "ok";
  const second = browser.open();
  await Promise.all([second.enqueue(watched({ progress: 20 })), settle()]);
  await browser.pass(10_000);
  expect(server.chapters()).toEqual({ "c-1": { progress: 20, timeSpent: 2 } });
  expect([server.stored.size, server.conflicts]).toEqual([2, []]);
});

test("five hundred answers of 503 and an hour without a network lose nothing", async () => {
  const queue = browser.open();
  server.mode = 503;
  void queue.enqueue(quiz("a"));
  await browser.pass(3_600_000);
  expect(server.requests.length).toBeGreaterThan(10);
  expect(queue.status).toMatchObject({ pending: 1, state: "backoff" });
  browser.onLine = false;
  server.mode = "down";
  await browser.pass(3_600_000);
  expect(queue.status).toMatchObject({ pending: 1, lostCount: 0 });
  server.mode = "ok";
  browser.onLine = true;
  browser.window.dispatchEvent(new Event("online"));
  await browser.pass(1_000);
  expect([queue.status.pending, server.stored.size]).toEqual([0, 1]);
});

test("offline, one request a minute finds out whether that is true", async () => {
  browser.onLine = false;
  server.mode = "down";
  const queue = browser.open();
  void queue.enqueue(quiz("a"));
  await browser.pass(6_000);
  server.mode = "ok";
  await browser.pass(58_000);
  expect([server.requests.length, queue.status.state]).toEqual([0, "offline"]);
  await browser.pass(2_000);
  expect([server.requests.length, queue.status.pending]).toEqual([1, 0]);
});

test("Retry-After stops the whole queue, by hand too", async () => {
  server.mode = 429;
  server.retryAfter = "120";
  const queue = browser.open();
  void queue.enqueue(quiz("a"));
  await browser.pass(5_000);
  server.mode = "ok";
  void queue.enqueue(quiz("b"));
  await queue.flush();
  await browser.pass(110_000);
  expect(server.requests.length).toBe(1);
  await browser.pass(30_000);
  expect(server.stored.size).toBe(2);
});

test("a backoff survives a reload", async () => {
  server.mode = 503;
  server.retryAfter = "300";
  await Promise.all([browser.open().enqueue(quiz("a")), settle()]);
  await browser.pass(5_000);
  browser.locks.kill(1);
  server.dead.add("Bearer page-1");
  server.mode = "ok";
  browser.open();
  await browser.pass(280_000);
  expect(server.requests.length).toBe(1);
  await browser.pass(60_000);
  expect(server.stored.size).toBe(1);
});

test("a 401 pauses until there is a token, in whichever tab", async () => {
  const asked: number[] = [];
  server.mode = 401;
  const leader = browser.open({ onAuthRequired: (status) => asked.push(status) });
  const other = browser.open();
  void leader.enqueue(watched());
  await browser.pass(600_000);
  expect([server.requests.length, asked, leader.status.state]).toEqual([1, [401], "auth"]);
  server.mode = "ok";
  other.setToken("a newer one");
  await browser.pass(5_000);
  expect([server.stored.size, other.status.leader, leader.status.leader]).toEqual([1, true, false]);
});

test("events are never sent with another person's token", async () => {
  const token = `h.${btoa(JSON.stringify({ sub: "bob" }))}.s`;
  const queue = browser.open({ token: () => token });
  await Promise.all([queue.enqueue(watched()), settle()]);
  await browser.pass(10_000);
  expect([server.requests.length, queue.status.state]).toEqual([0, "auth"]);
  expect(() => queue.enqueue(watched({ userId: "bob" }))).toThrow(ProgressEventError);
  const bobs = browser.open({ userId: "bob", token: "bobs" });
  await browser.pass(10_000);
  expect([server.requests.length, bobs.status.pending]).toEqual([0, 0]);
});

test("a forbidden event waits for the right token", async () => {
  const queue = browser.open();
  server.results.set("e", { status: "rejected", code: "forbidden" });
  void queue.enqueue({ ...quiz("a"), id: "e" });
  await browser.pass(5_000);
  expect(queue.status).toMatchObject({ pending: 1, state: "auth", lostCount: 0 });
  server.results.clear();
  queue.setToken("right");
  await browser.pass(1);
  expect(server.stored.size).toBe(1);
});

test("one poisonous event is given up and its neighbours count", async () => {
  const drops: Drop[] = [];
  const queue = browser.open({ onDrop: (drop) => drops.push(drop) });
  server.results.set("bad", { status: "rejected", code: "invalid_event" });
  server.results.set("odd", { status: "quarantined" });
  for (const id of ["one", "bad", "odd", "two"]) void queue.enqueue({ ...quiz(id), id });
  await browser.pass(5_000);
  expect([...server.stored.keys()]).toEqual(["one", "two"]);
  expect(drops.map((drop) => drop.reason)).toEqual(["rejected", "quarantined"]);
  expect((await Promise.all([queue.deadLetters(), settle()]))[0]).toMatchObject([{ result: { code: "invalid_event" } }]);
  expect(queue.status).toMatchObject({ pending: 0, lostCount: 1 });
});

test("a batch that is too large is halved", async () => {
  server.mode = 413;
  const queue = browser.open();
  for (let n = 0; n < 10; n++) void queue.enqueue(quiz(`a${n}`));
  await browser.pass(1_000);
  expect(server.requests.map((events) => events.length).slice(0, 4)).toEqual([10, 5, 2, 1]);
  expect([server.stored.size, queue.status.lostCount]).toEqual([10, 0]);
});

test.each([200, 404] as const)("an answer %s that is not Homeroom's loses nothing", async (mode) => {
  server.mode = mode;
  const queue = browser.open();
  void queue.enqueue(quiz("a"));
  await browser.pass(60_000);
  expect(queue.status).toMatchObject({ pending: 1, lostCount: 0 });
  server.mode = "ok";
  await browser.pass(600_000);
  expect(server.stored.size).toBe(1);
});

test("a tab takes the lead when the leading one is killed", async () => {
  const tabs = Array.from({ length: 5 }, () => browser.open());
  await browser.pass(1);
  expect(tabs.map((tab) => tab.status.leader)).toEqual([true, false, false, false, false]);
  for (const tab of tabs) void tab.enqueue(watched());
  await browser.pass(1_000);
  server.dead.add("Bearer page-1");
  browser.locks.kill(1);
  await browser.pass(6_000);
  expect(server.chapters()["c-1"]!.timeSpent).toBe(5);
  expect(server.requests.length).toBeLessThan(3);
});

test("what is not stored yet when the page is left is written down, and counts once", async () => {
  const first = browser.open();
  await Promise.all([first.enqueue(watched()), settle()]);
  void first.enqueue(watched({ progress: 50, timeSpent: 7 }));
  browser.document.visibilityState = "hidden";
  browser.document.dispatchEvent(new Event("visibilitychange"));
  expect(Object.keys(localStorage).length).toBe(1);
  const second = browser.open(); // it takes over what the first one is still storing
  await browser.pass(20_000);
  expect(Object.keys(localStorage)).toEqual([]);
  expect(server.chapters()).toEqual({ "c-1": { progress: 50, timeSpent: 8 } });
  expect(second.status.pending).toBe(0);
});

test("a hidden page sends at once, and what follows has a new id", async () => {
  const queue = browser.open();
  await Promise.all([queue.enqueue(watched()), settle()]);
  browser.document.visibilityState = "hidden";
  browser.document.dispatchEvent(new Event("visibilitychange"));
  await settle();
  expect(server.requests.length).toBe(1);
  void queue.enqueue(watched({ progress: 60 }));
  await browser.pass(5_000);
  expect([server.stored.size, server.conflicts]).toEqual([2, []]);
});

test("a full queue drops progress that is superseded, never a quiz", async () => {
  server.mode = "down";
  const drops: Drop[] = [];
  const queue = browser.open({ onDrop: (drop) => drops.push(drop) });
  const old = browser.open(); // its records are not merged into
  void old.enqueue(watched({ progress: 5 }));
  await browser.pass(1);
  for (let n = 0; n < 999; n++) void queue.enqueue(quiz(`a${n}`));
  await queue.enqueue(watched());
  await settle();
  expect(drops.map(({ reason, event }) => [reason, event.progress])).toEqual([["overflow", 5]]);
  expect(queue.status).toMatchObject({ pending: 1_000, lostCount: 1 });
});

test("without IndexedDB the events are in localStorage, and move once it is back", async () => {
  const { indexedDB } = globalThis;
  vi.stubGlobal("indexedDB", undefined);
  server.mode = "down";
  const first = browser.open();
  await Promise.all([first.enqueue(watched()), settle()]);
  expect([first.status.durability, Object.keys(localStorage).length > 0]).toEqual(["localstorage", true]);
  browser.locks.kill(1);
  server.dead.add("Bearer page-1");
  vi.stubGlobal("indexedDB", indexedDB);
  server.mode = "ok";
  const second = browser.open();
  await browser.pass(400_000);
  expect([second.status.durability, server.stored.size]).toEqual(["indexeddb", 1]);
  vi.stubGlobal("indexedDB", undefined);
  vi.stubGlobal("localStorage", undefined);
  const third = browser.open({ userId: "eve" });
  await Promise.all([third.enqueue(watched()), settle()]);
  expect(third.status.durability).toBe("memory");
});

test("a device whose clock was moved back does not wait for it", async () => {
  server.mode = 503;
  const queue = browser.open();
  void queue.enqueue(quiz("a"));
  await browser.pass(30_000);
  server.mode = "ok";
  vi.setSystemTime(Date.now() - 86_400_000);
  void queue.enqueue(quiz("b"));
  await browser.pass(400_000);
  expect(server.stored.size).toBe(2);
});

test("limits are checked at once, with a code", () => {
  const queue = browser.open();
  const code = (input: ProgressInput) => {
    try {
      void queue.enqueue(input);
    } catch (error) {
      return [(error as ProgressEventError).code, (error as ProgressEventError).field];
    }
    return [];
  };
  expect(code(watched({ metadata: { text: "x".repeat(4_096) } }))).toEqual(["metadata_too_large", "metadata"]);
  expect(code(watched({ chapterId: "" }))).toEqual(["invalid_event", "chapterId"]);
  expect(code(watched({ courseId: "a\u0000" }))).toEqual(["invalid_event", "courseId"]);
  expect(code(watched({ progress: NaN }))).toEqual(["invalid_event", "progress"]);
  expect(code(watched({ timeSpent: -1 }))).toEqual(["invalid_event", "timeSpent"]);
  expect(code({ ...quiz("a"), quiz: { attemptId: "a", score: 3, maxScore: 2 } })).toEqual(["invalid_event", "quiz"]);
  expect(code({ ...quiz("a"), eventType: "chapter_progres" as "heartbeat" })).toEqual(["invalid_event", "eventType"]);
  expect(code({ ...watched(), quiz: { attemptId: "x".repeat(9_000), score: 1, maxScore: 2 } })).toEqual(["event_too_large", "event"]);
  expect(code(watched({ progress: 140 }))).toEqual([]);
});

test("close sends what waits, and nothing is taken afterwards", async () => {
  const queue = browser.open();
  await Promise.all([queue.enqueue(watched()), settle()]);
  await Promise.all([queue.close(), settle()]);
  expect(server.stored.size).toBe(1);
  expect(() => queue.enqueue(watched())).toThrow(ProgressEventError);
  expect(vi.getTimerCount()).toBe(0);
});
