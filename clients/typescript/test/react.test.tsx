// @vitest-environment happy-dom
import "fake-indexeddb/auto";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, renderHook, waitFor } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ClientProgressQueue } from "../src/index.js";
import * as react from "../src/react.js";

let answers: Record<string, () => Response>;
let asked: string[];
let queue: ClientProgressQueue;

beforeEach(() => {
  answers = {};
  asked = [];
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    const path = new URL(url).pathname;
    asked.push(`${init.method ?? "GET"} ${path}`);
    return answers[path]?.() ?? Response.json({ detail: "There is no such thing.", code: "not_found" }, { status: 404 });
  });
  queue = new ClientProgressQueue({ endpoint: "https://h.example.org", userId: "ada", token: "t" });
});
afterEach(async () => {
  cleanup();
  await queue.close();
  vi.unstubAllGlobals();
});

function around({ children }: { children: ReactNode }) {
  const client = new QueryClient({ defaultOptions: { queries: { gcTime: 0 } } });
  return (
    <QueryClientProvider client={client}>
      <react.HomeroomProvider endpoint="https://h.example.org/" token={() => "t"} queue={queue}>
        {children}
      </react.HomeroomProvider>
    </QueryClientProvider>
  );
}
const render = <T,>(hook: () => T) => renderHook(hook, { wrapper: around }).result;

test("useStep10Status has the shape of its first description and ends with the generation", async () => {
  const said = [40, 30, 100].map((progress, n) => ({
    workflowId: "w", status: n == 2 ? "complete" : "in_progress", progress,
    estimatedTimeRemainingSeconds: n == 2 ? null : 61, heartbeatAt: "2026-01-01T00:00:00Z",
  }));
  let calls = 0;
  answers["/api/v3/workflow/w/step10/status"] = () => Response.json({ data: said[Math.min(calls++, 2)] });
  const seen: number[] = [];
  const result = render(() => {
    const hook = react.useStep10Status("w", 30);
    seen.push(hook.progressPercentage);
    return hook;
  });
  expect(result.current).toMatchObject({ status: null, loading: true, error: null });
  await waitFor(() => expect(result.current.estimatedTimeRemaining).toBe(2));
  expect(result.current.stalled).toBe(true);
  await waitFor(() => expect(result.current.status?.status).toBe("complete"));
  expect(seen.toSorted((a, b) => a - b)).toEqual(seen);
  const until = calls;
  await new Promise((resolve) => setTimeout(resolve, 120));
  expect([calls, result.current.estimatedTimeRemaining]).toEqual([until, null]);
});

test("what is put into the queue is shown at once and read again when it has arrived", async () => {
  const chapter = { chapterId: "c-1", progress: 10, completed: false, timeSpent: 0, lastWatchedAt: null, quiz: null };
  answers["/api/v1/courses/a%2Fb/progress"] = () => Response.json({ courseId: "a/b", chapters: [chapter] });
  answers["/api/progress/enhanced-update"] = () => Response.json({ accepted: 1, results: [] });
  const result = render(() => ({
    chapter: react.useChapterProgress("a/b", "c-1"),
    mutation: react.useProgressMutation(),
    queue: react.useQueueStatus(),
  }));
  await waitFor(() => expect(result.current.chapter.progress).toBe(10));
  await act(() =>
    result.current.mutation.mutateAsync({ courseId: "a/b", chapterId: "c-1", eventType: "chapter_progress", progress: 60 }),
  );
  await waitFor(() => expect(result.current.chapter.progress).toBe(60));
  expect(result.current.queue?.pending).toBe(1);
  chapter.progress = 65;
  await act(() => queue.flush());
  await waitFor(() => expect(result.current.chapter.progress).toBe(65));
  expect(result.current.queue?.pending).toBe(0);
});

test("useCompletion finds the page of the credential when its step is done", async () => {
  const steps = [{ name: "credential", status: "active" }];
  answers["/api/v1/completions"] = () => Response.json({ items: [{ id: "x", steps }] });
  answers["/api/v1/credentials"] = () =>
    Response.json({ items: [{ completionId: "x", url: "https://h.example.org/credentials/k" }] });
  const result = render(() => react.useCompletion("c", 30));
  await waitFor(() => expect(result.current.steps.length).toBe(1));
  expect([result.current.credentialUrl, asked.includes("GET /api/v1/credentials")]).toEqual([null, false]);
  steps[0]!.status = "completed";
  await waitFor(() => expect(result.current.credentialUrl).toBe("https://h.example.org/credentials/k"));
});

test("useNotifications marks as read, useProgressMetrics has both figures", async () => {
  let unreadCount = 1;
  answers["/api/v1/notifications"] = () => Response.json({ items: [{ id: "n" }], unreadCount });
  answers["/api/v1/notifications/n/read"] = () => Response.json({ readCount: (unreadCount = 0) });
  answers["/api/v1/metrics/summary"] = () => Response.json({ queueSize: 3 });
  const result = render(() => ({ inbox: react.useNotifications(), metrics: react.useProgressMetrics() }));
  await waitFor(() => expect(result.current.inbox.unreadCount).toBe(1));
  await act(() => result.current.inbox.markRead("n"));
  await waitFor(() => expect(result.current.inbox.unreadCount).toBe(0));
  expect(result.current.metrics).toMatchObject({ metrics: { queueSize: 3 }, queue: { pending: 0 } });
});

test("a problem document is an error with its code, and is not asked for again", async () => {
  const result = render(() => react.useCourseProgress("none"));
  await waitFor(() => expect(result.current.error).toMatchObject({ status: 404, code: "not_found" }));
  expect(asked.length).toBe(1);
});
