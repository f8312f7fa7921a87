import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import type { ProgressInput } from "./event.js";
import type { Completion, CourseProgress, Credential, Notification, ProgressMetrics, Step10Status } from "./model.js";
import type { ClientProgressQueue, QueueStatus, TokenSource } from "./queue.js";

export type * from "./model.js";

/** An answer that is a problem document; `code` is for programs. */
export class HomeroomError extends Error {
  override name = "HomeroomError";
  constructor(
    message: string,
    readonly status: number,
    readonly code?: string,
    /** The server's own wait, in milliseconds. */
    readonly retryAfterMs = 0,
  ) {
    super(message);
  }
}

export interface HomeroomProviderProps {
  /** The URL of the server. */
  endpoint: string;
  token: TokenSource;
  /** Where `useProgressMutation` puts its events. Not needed by pages that only read. */
  queue?: ClientProgressQueue;
  children?: ReactNode;
}

interface Homeroom {
  queue: ClientProgressQueue | undefined;
  request<T>(path: string, method?: string): Promise<T>;
}

const Context = createContext<Homeroom | undefined>(undefined);

function useHomeroom(): Homeroom {
  const found = useContext(Context);
  if (!found) throw new Error("Put a HomeroomProvider around the component.");
  return found;
}

/** Give the hooks below it a server; needs a `QueryClientProvider` above it. */
export function HomeroomProvider({ endpoint, token, queue, children }: HomeroomProviderProps): ReactNode {
  const value = useMemo<Homeroom>(
    () => ({
      queue,
      request: async <T,>(path: string, method = "GET") => {
        const answer = await fetch(endpoint.replace(/\/+$/, "") + path, {
          method,
          headers: { authorization: `Bearer ${typeof token == "string" ? token : await token()}` },
          credentials: "omit",
          cache: "no-cache", // asks with the ETag of the last answer: 304 if it is the same
        });
        const body = await answer.json().catch(() => ({}));
        if (answer.ok) return body as T;
        const wait = Number(answer.headers.get("retry-after")) * 1_000 || 0;
        throw new HomeroomError(body.detail ?? `HTTP ${answer.status}`, answer.status, body.code, wait);
      },
    }),
    [endpoint, token, queue],
  );
  return createElement(Context.Provider, { value }, children);
}

/** Read a path again and again: every `interval` ms, later if the server asks for it. */
function useRead<T>(path: string, interval?: (data: T | undefined) => number | false, enabled = true) {
  const { request } = useHomeroom();
  return useQuery<T, HomeroomError>({
    queryKey: ["homeroom", path],
    queryFn: () => request<T>(path),
    enabled,
    refetchInterval: ({ state }) => {
      const wait = interval?.(state.data) ?? false;
      return wait && Math.max(wait, state.error?.retryAfterMs ?? 0);
    },
    retry: (count, { status }) => count < 3 && !(status >= 400 && status < 500),
    retryDelay: (count, { retryAfterMs }) => retryAfterMs || 1_000 * 2 ** count,
  });
}

const progressPath = (courseId: string) => `/api/v1/courses/${encodeURIComponent(courseId)}/progress`;
const noStatus = () => undefined;
const noSubscription = () => () => {};

/** The state of the queue: what waits, what is lost, and why it does not send. */
export function useQueueStatus(): QueueStatus | undefined {
  const { queue } = useHomeroom();
  const read = queue ? () => queue.status : noStatus;
  return useSyncExternalStore<QueueStatus | undefined>(queue?.subscribe ?? noSubscription, read, noStatus);
}

/**
 * Put events into the queue: `mutate(event)`. Succeeds once the event is stored on this device; what
 * `useChapterProgress` shows follows at once, the server's word later.
 */
export function useProgressMutation() {
  const { queue } = useHomeroom();
  const client = useQueryClient();
  return useMutation<void, Error, ProgressInput>({
    networkMode: "always",
    mutationFn: async (event) => {
      if (!queue) throw new Error("The HomeroomProvider has no queue.");
      await queue.enqueue(event);
    },
    onSuccess: (_, { courseId, chapterId, progress = 0 }) => {
      client.setQueryData<CourseProgress>(["homeroom", progressPath(courseId)], (known) =>
        known && {
          ...known,
          chapters: known.chapters.map((chapter) =>
            chapter.chapterId == chapterId
              ? { ...chapter, progress: Math.max(chapter.progress, progress) }
              : chapter,
          ),
        },
      );
    },
  });
}

/** The learner's course; read again when events of this device have arrived. */
export function useCourseProgress(courseId: string) {
  const pending = useQueueStatus()?.pending ?? 0;
  const before = useRef(pending);
  const query = useRead<CourseProgress>(progressPath(courseId));
  const { refetch } = query;
  useEffect(() => {
    if (pending < before.current) void refetch();
    before.current = pending;
  }, [pending, refetch]);
  return { course: query.data, loading: query.isLoading, error: query.error, query };
}

/** One chapter of the learner's course. */
export function useChapterProgress(courseId: string, chapterId: string) {
  const { course, ...rest } = useCourseProgress(courseId);
  const chapter = course?.chapters.find((each) => each.chapterId == chapterId);
  return {
    ...rest,
    chapter,
    progress: chapter?.progress ?? 0,
    completed: chapter?.completed ?? false,
    timeSpent: chapter?.timeSpent ?? 0,
  };
}

/** The server's figures (roles operator and viewer), and those of this page's queue. */
export function useProgressMetrics(intervalMs = 5_000) {
  const query = useRead<ProgressMetrics>("/api/v1/metrics/summary", () => intervalMs);
  const queue = useQueueStatus();
  return { metrics: query.data, queue, loading: query.isLoading, error: query.error, query };
}

/**
 * The generation of a lesson plan, polled until it has ended and not in hidden pages. The
 * percentage never goes back; the remaining time is in minutes, null while it is unknown.
 */
export function useStep10Status(workflowId: string, intervalMs = 5_000) {
  const path = `/api/v3/workflow/${encodeURIComponent(workflowId)}/step10/status`;
  const hasEnded = (status?: Step10Status) => /complete|failed|cancelled/.test(status?.status ?? "");
  const query = useRead<{ data: Step10Status }>(
    path,
    (answer) => !hasEnded(answer?.data) && intervalMs,
    !!workflowId,
  );
  const status = query.data?.data ?? null;
  const best = useRef({ workflowId, percentage: 0 });
  if (best.current.workflowId != workflowId) best.current = { workflowId, percentage: 0 };
  best.current.percentage = Math.max(best.current.percentage, status?.progress ?? 0);
  const seconds = status?.estimatedTimeRemainingSeconds;
  const silent = Date.now() - Date.parse(status?.heartbeatAt ?? "");
  return {
    status,
    loading: query.isLoading,
    error: query.error?.message ?? null,
    progressPercentage: best.current.percentage,
    estimatedTimeRemaining: seconds == null ? null : Math.ceil(seconds / 60),
    /** It is said to run, and nothing was heard of it for a minute. */
    stalled: status?.status == "in_progress" && silent > 60_000,
    query,
  };
}

/** The learner's inbox. */
export function useNotifications(intervalMs = 60_000) {
  const { request } = useHomeroom();
  const query = useRead<{ items: Notification[]; unreadCount: number }>(
    "/api/v1/notifications",
    () => intervalMs,
  );
  const mark = async (path: string) => {
    await request(`/api/v1/notifications/${path}`, "POST");
    await query.refetch();
  };
  return {
    notifications: query.data?.items ?? [],
    unreadCount: query.data?.unreadCount ?? 0,
    markRead: (id: string) => mark(`${encodeURIComponent(id)}/read`),
    markAllRead: () => mark("read-all"),
    loading: query.isLoading,
    error: query.error,
    query,
  };
}

/** The learner's completion of a course, its steps, and the page of the credential once there is one. */
export function useCompletion(courseId: string, intervalMs = 5_000) {
  const isOpen = (completion?: Completion) =>
    !completion || completion.steps.some(({ status }) => /waiting|active/.test(status));
  const query = useRead<{ items: Completion[] }>(
    `/api/v1/completions?courseId=${encodeURIComponent(courseId)}&limit=1`,
    (answer) => isOpen(answer?.items[0]) && intervalMs,
  );
  const completion = query.data?.items[0];
  const isIssued = completion?.steps.some(({ name, status }) => name == "credential" && status == "completed");
  const credentials = useRead<{ items: Credential[] }>("/api/v1/credentials", undefined, !!isIssued);
  const credential = credentials.data?.items.find((each) => each.completionId == completion?.id);
  return {
    completion,
    steps: completion?.steps ?? [],
    credential,
    credentialUrl: credential?.url ?? null,
    loading: query.isLoading,
    error: query.error,
    query,
  };
}
