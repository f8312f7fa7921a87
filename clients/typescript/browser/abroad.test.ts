import { writeFile } from "node:fs/promises";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { chromium, counted, HOMEROOM, launchOptions, openPage, publish, Site, token, until } from "./world.js";

let site: Site;
let browser: Browser;

beforeAll(async () => {
  await publish();
  site = await Site.start();
  browser = await chromium.launch(launchOptions);
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
});

/** Send an event of a learner from a page, without the queue. */
const send = (page: Page, userId: string, id: string): Promise<number> =>
  page.evaluate(
    async ([url, bearer, user, eventId]) => {
      const event = {
        id: eventId, userId: user, courseId: "browser", chapterId: "c-1", eventType: "chapter_progress",
        progress: 40, timeSpent: 1, timestamp: new Date().toISOString(),
      };
      const answer = await fetch(`${url}/api/progress/enhanced-update`, {
        method: "POST",
        headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
        body: JSON.stringify({ events: [event] }),
      });
      return answer.status;
    },
    [HOMEROOM, token(userId), userId, id] as const,
  );

test("a page of another origin polls with ETags, follows its stream, and closes with a beacon", async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "other-origin", { endpoint: HOMEROOM });
  expect(new URL(page.url()).origin).not.toBe(new URL(HOMEROOM).origin);
  expect(await send(page, "other-origin", "abroad-1")).toBe(200);

  const poll = (etag: string | null) =>
    page.evaluate(
      async ([url, bearer, known]) => {
        const headers: Record<string, string> = { authorization: `Bearer ${bearer}` };
        if (known) headers["if-none-match"] = known;
        const answer = await fetch(`${url}/api/v1/courses/browser/progress`, { headers, cache: "no-store" });
        return { status: answer.status, etag: answer.headers.get("etag"), bytes: (await answer.text()).length };
      },
      [HOMEROOM, token("other-origin"), etag] as const,
    );
  const first = await poll(null);
  expect(first).toMatchObject({ status: 200, etag: expect.any(String) });
  for (let times = 0; times < 3; times++) {
    expect(await poll(first.etag)).toEqual({ status: 304, etag: first.etag, bytes: 0 });
  }

  // EventSource sends no header: a ticket of one use opens the learner's stream.
  await page.evaluate(
    async ([url, bearer]) => {
      const made = await fetch(`${url}/api/v1/events/ticket`, {
        method: "POST",
        headers: { authorization: `Bearer ${bearer}` },
      });
      const { ticket } = (await made.json()) as { ticket: string };
      window.hints = [];
      const stream = new EventSource(`${url}/api/v1/events?ticket=${encodeURIComponent(ticket)}`);
      const hear = (hint: MessageEvent<string>) => window.hints.push(hint.data);
      for (const name of ["message", "hint", "change"]) stream.addEventListener(name, hear);
      await new Promise((resolve, reject) => {
        stream.onopen = resolve;
        stream.onerror = () => reject(new Error("The stream was refused."));
      });
    },
    [HOMEROOM, token("other-origin")] as const,
  );
  expect(await send(page, "someone-else", "abroad-2")).toBe(200);
  expect(await send(page, "other-origin", "abroad-3")).toBe(200);
  const hints = await until(() => page.evaluate(() => window.hints), (found) => found.length > 0);
  expect(hints.join()).toContain("other-origin/browser");
  expect(hints.join()).not.toContain("someone-else");
  expect(await poll(first.etag)).toMatchObject({ status: 200 });

  const isQueued = await page.evaluate(
    ([url, bearer]) => {
      const event = {
        id: "abroad-4", userId: "other-origin", courseId: "browser", chapterId: "c-1",
        eventType: "chapter_progress", progress: 60, timeSpent: 1, timestamp: new Date().toISOString(),
      };
      const body = JSON.stringify({ token: bearer, events: [event] });
      return navigator.sendBeacon(`${url}/api/progress/enhanced-update`, body);
    },
    [HOMEROOM, token("other-origin")] as const,
  );
  await page.close();
  expect(isQueued).toBe(true);
  const seen = await until(() => counted("other-origin"), ({ events }) => events >= 3);
  expect(seen).toEqual({ events: 3, timeSpent: 3 });
  await context.close();
});

test("what enqueue costs the main thread is recorded", async () => {
  const context = await browser.newContext();
  site.fault = 503; // the queue keeps what it gets
  const page = await openPage(context, site, "costs");
  const milliseconds = await page.evaluate(async () => {
    const times: number[] = [];
    for (let n = 0; n < 400; n++) {
      const event = {
        courseId: "browser", chapterId: `c-${n % 40}`, eventType: "quiz_attempt" as const,
        quiz: { attemptId: `try-${n}`, score: 7, maxScore: 10 }, timeSpent: 1,
      };
      const start = performance.now();
      const stored = window.queue.enqueue(event);
      times.push(performance.now() - start);
      await stored;
    }
    return times;
  });
  site.fault = undefined;
  const sorted = milliseconds.slice(100).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(sorted.length * share)]!;
  const found = { events: sorted.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) };
  expect(found.events).toBe(300);
  if (process.env["HOMEROOM_TEST_RECORD"]) {
    await writeFile(process.env["HOMEROOM_TEST_RECORD"], JSON.stringify(found));
  }
  await context.close();
});
