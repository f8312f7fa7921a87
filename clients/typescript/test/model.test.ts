import fc from "fast-check";
import { expect, test } from "vitest";
import type { ClientProgressQueue } from "../src/index.js";
import { Browser, settle } from "./support/page.js";
import { Server } from "./support/server.js";

/** What was enqueued, added up: what the server has to count in the end, however it came. */
interface Model {
  chapters: Record<string, { progress: number; timeSpent: number }>;
  quizzes: Set<string>;
}

const command = fc.oneof(
  { weight: 6, arbitrary: fc.record({
    do: fc.constant("watch" as const),
    page: fc.nat(2),
    chapter: fc.constantFrom("c-1", "c-2"),
    progress: fc.nat(100),
    timeSpent: fc.nat(30),
    isAwaited: fc.boolean(),
  }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("quiz" as const), page: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({
    do: fc.constant("server" as const),
    mode: fc.constantFrom("ok", "ok", "down", "lost-answer", 200, 401, 404, 413, 503),
    retryAfter: fc.constantFrom(undefined, "1", "60"),
  }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("pass" as const), seconds: fc.constantFrom(0, 1, 6, 90) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("flush" as const), page: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("hide" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("kill" as const), page: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("token" as const), page: fc.nat(2) }) },
);

const runs = Number(process.env.TEST_EFFORT ?? 1) * 60;

test("whatever happens on the way, the server counts what was enqueued, once", { timeout: 600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40 }), async (commands) => {
      const browser = new Browser();
      const server = new Server(browser.endpoint);
      const model: Model = { chapters: {}, quizzes: new Set() };
      const pages: ClientProgressQueue[] = [browser.open(), browser.open(), browser.open()];
      const names = [1, 2, 3];
      let opened = 3;
      for (const each of commands) {
        const page = pages[("page" in each && each.page) || 0]!;
        if (each.do == "watch") {
          const { chapter, progress, timeSpent } = each;
          const known = (model.chapters[chapter] ??= { progress: 0, timeSpent: 0 });
          known.progress = Math.max(known.progress, progress);
          known.timeSpent += timeSpent;
          const stored = page.enqueue({
            courseId: "c", chapterId: chapter, eventType: "chapter_progress", progress, timeSpent,
          });
          if (each.isAwaited) await Promise.all([stored, settle(10)]);
        } else if (each.do == "quiz") {
          const attemptId = `a${model.quizzes.size}`;
          model.quizzes.add(attemptId);
          void page.enqueue({
            courseId: "c", chapterId: "c-3", eventType: "quiz_attempt",
            quiz: { attemptId, score: 1, maxScore: 1 },
          });
        } else if (each.do == "server") {
          server.mode = each.mode as Server["mode"];
          server.retryAfter = each.retryAfter;
        } else if (each.do == "pass") await browser.pass(each.seconds * 1_000);
        else if (each.do == "flush") void page.flush();
        else if (each.do == "token") page.setToken(`page-${names[each.page]}`);
        else if (each.do == "hide") {
          browser.document.visibilityState = "hidden";
          browser.document.dispatchEvent(new Event("visibilitychange"));
          browser.document.visibilityState = "visible";
        } else {
          await settle(40); // what is enqueued is stored: from here on nothing may be lost
          server.dead.add(`Bearer page-${names[each.page]}`);
          browser.locks.kill(names[each.page]!);
          pages[each.page] = browser.open();
          names[each.page] = ++opened;
        }
      }
      server.mode = "ok";
      server.retryAfter = undefined;
      await browser.pass(1);
      for (const [index, page] of pages.entries()) page.setToken(`page-${names[index]}`);
      await browser.pass(1_200_000);
      const quizzes = [...server.stored.values()].flatMap(({ quiz }) => (quiz ? [quiz.attemptId] : []));
      const { "c-3": _, ...chapters } = server.chapters();
      expect(chapters).toEqual(model.chapters);
      expect(quizzes.toSorted()).toEqual([...model.quizzes].toSorted());
      expect(server.conflicts).toEqual([]);
      for (const page of pages) expect(page.status).toMatchObject({ pending: 0, lostCount: 0, state: "idle" });
      await browser.end();
    }),
    { numRuns: runs, endOnFailure: false },
  );
});
