import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { chromium, counted, enqueue, HOMEROOM, launchOptions, openPage, publish, Site, token, until } from "./world.js";

let site: Site;
let browser: Browser;
let idle: Page;
let idleSince: number;

beforeAll(async () => {
  await publish();
  site = await Site.start();
  browser = await chromium.launch(launchOptions);
  // The idle page is looked at when all other tests are done.
  idle = await openPage(await browser.newContext(), site, "idle");
  await enqueue(idle, 3);
  await until(() => idle.evaluate(() => window.queue.status.state), (state) => state == "idle");
  idleSince = await idle.evaluate(() => ((window.wakeUps = 0), Date.now()));
});
beforeEach(() => {
  site.fault = undefined;
  site.forwarded = [];
  site.refused = 0;
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
});

/** Homeroom counts each of `events` of one second once; no more come later. */
async function countedOnce(userId: string, events: number): Promise<void> {
  const seen = await until(() => counted(userId), (found) => found.events >= events);
  expect(seen).toEqual({ events, timeSpent: events });
}

const isEmpty = (page: Page) =>
  until(() => page.evaluate(() => window.queue.status.pending), (pending) => pending == 0);

test("events of a tab that is closed at once arrive without another visit", async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "closed");
  await enqueue(page, 7);
  await page.close();
  await countedOnce("closed", 7);
  await isEmpty(await openPage(context, site, "closed"));
  await countedOnce("closed", 7);
  await context.close();
});

test("a page of another origin is served, and says good-bye", async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "abroad", { endpoint: HOMEROOM });
  await enqueue(page, 10);
  await countedOnce("abroad", 10);
  await enqueue(page, 5, 20);
  await page.close();
  await countedOnce("abroad", 15);
  expect(site.forwarded).toEqual([]);
  await context.close();
});

test("a browser without keepalive says good-bye by a beacon, and repeats what it cannot know", async () => {
  const context = await browser.newContext();
  await context.addInitScript(() => {
    Reflect.deleteProperty(Request.prototype, "keepalive");
  });
  const beacons = token("beacon");
  const page = await openPage(context, site, "beacon", { token: beacons });
  await enqueue(page, 10); // so that the token is known
  await countedOnce("beacon", 10);
  site.forwarded = [];
  await enqueue(page, 4, 20);
  await page.close();
  await until(async () => site.forwarded.length, (sent) => sent > 0);
  expect(JSON.parse(site.forwarded[0]!)).toMatchObject({ token: beacons, events: { length: 4 } });
  await isEmpty(await openPage(context, site, "beacon"));
  await countedOnce("beacon", 14);
  await context.close();
});

test("events in flight when the page is reloaded count once", async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "reload");
  for (const fault of ["slow", "cut", "slow"] as const) {
    site.fault = fault;
    const sent = site.forwarded.length;
    await enqueue(page, 12, 12 * ["slow", "cut"].indexOf(fault));
    await until(async () => site.forwarded.length, (now) => now > sent);
    await page.reload();
    await page.waitForFunction(() => window.queue);
  }
  site.fault = undefined;
  await isEmpty(page);
  await countedOnce("reload", 36);
  await context.close();
});

describe("a browser killed by SIGKILL", () => {
  test.each([0, 300])("%i ms after the events were stored loses none", async (wait) => {
    const userId = `killed-${wait}`;
    const profile = await mkdtemp(join(tmpdir(), "homeroom-profile-"));
    site.fault = "slow";
    const first = await chromium.launchPersistentContext(profile, launchOptions);
    const page = await openPage(first, site, userId);
    await enqueue(page, 8);
    await new Promise((resolve) => setTimeout(resolve, wait));
    await killBrowser(profile);
    await first.close().catch(() => {});
    site.fault = undefined;
    const second = await chromium.launchPersistentContext(profile, launchOptions);
    await isEmpty(await openPage(second, site, userId));
    await countedOnce(userId, 8);
    await second.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  });
});

/** Kill every process that uses a profile: the browser's own among them. */
async function killBrowser(profile: string): Promise<void> {
  const { readdir, readFile } = await import("node:fs/promises");
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes(profile)) {
      try {
        process.kill(Number(pid), "SIGKILL");
      } catch {
        // It has died with its parent.
      }
    }
  }
}

test("an hour offline loses nothing", async () => {
  const context = await browser.newContext();
  await context.clock.install();
  const page = await openPage(context, site, "offline");
  await context.setOffline(true);
  for (let n = 0; n < 6; n++) {
    await enqueue(page, 5, n * 5);
    await page.clock.fastForward("10:00");
  }
  expect(await page.evaluate(() => window.queue.status)).toMatchObject({ pending: 30, lostCount: 0 });
  await context.setOffline(false);
  await isEmpty(page);
  await countedOnce("offline", 30);
  await context.close();
});

test("a thousand answers of 503 lose nothing", { timeout: 300_000 }, async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "away");
  site.fault = 503;
  await enqueue(page, 15);
  await until(async () => site.refused, (refused) => refused >= 1_000, 240);
  site.fault = undefined;
  await isEmpty(page);
  await countedOnce("away", 15);
  await context.close();
});

test("an expired token pauses, and nothing is lost", async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "expired", { token: token("expired", -60) });
  await enqueue(page, 11);
  await until(() => page.evaluate(() => window.queue.status.state), (state) => state == "auth");
  await enqueue(page, 11, 11);
  const requests = site.forwarded.filter((body) => body.includes('"expired"')).length;
  await page.evaluate((fresh) => window.queue.setToken(fresh), token("expired"));
  await isEmpty(page);
  expect(requests).toBe(1);
  await countedOnce("expired", 22);
  await context.close();
});

test("five tabs send through one, and the others go on when it dies", async () => {
  const context = await browser.newContext();
  const pages: Page[] = [];
  for (let n = 0; n < 5; n++) pages.push(await openPage(context, site, "tabs"));
  const leads = () => Promise.all(pages.map((page) => page.evaluate(() => window.queue.status.leader)));
  expect((await leads()).filter(Boolean).length).toBe(1);
  site.fault = "slow";
  await Promise.all(pages.map((page, n) => enqueue(page, 4, n * 4)));
  const leader = pages[(await leads()).indexOf(true)]!;
  const session = await context.newCDPSession(leader);
  await Promise.race([
    session.send("Page.crash").catch(() => {}),
    new Promise((resolve) => leader.once("crash", resolve)),
  ]);
  pages.splice(pages.indexOf(leader), 1);
  await Promise.all(pages.map((page, n) => enqueue(page, 4, 20 + n * 4)));
  site.fault = undefined;
  await isEmpty(pages[0]!);
  await countedOnce("tabs", 36);
  expect((await leads()).filter(Boolean).length).toBe(1);
  await context.close();
});

test("a hundred updates of a chapter within five seconds are one request", async () => {
  const context = await browser.newContext();
  const page = await openPage(context, site, "merged");
  await page.evaluate(async () => {
    for (let n = 0; n < 100; n++) {
      await window.queue.enqueue({
        courseId: "browser", chapterId: "c-1", eventType: "chapter_progress", progress: (n * 37) % 100, timeSpent: 0.5,
      });
    }
  });
  await isEmpty(page);
  expect(site.forwarded.length).toBe(1);
  expect(await counted("merged")).toEqual({ events: 1, timeSpent: 50 });
  await context.close();
});

test("an idle queue wakes nothing for a minute", async () => {
  // Waited for here: Playwright's own timers in the page would count.
  await new Promise((resolve) => setTimeout(resolve, idleSince + 60_000 - Date.now()));
  expect(await idle.evaluate(() => [window.wakeUps, window.queue.status.state])).toEqual([0, "idle"]);
});
