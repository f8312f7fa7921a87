/** Every question that pages ask, each in one place: its key (see `live.ts`) and its request. */

import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";
import { ApiError, api, ask } from "./client";
import type { CompletionRetry, paths } from "./schema";

const PAGE = 50;

/** The filters of a list; empty ones are left out. They come from the address, so a wrong word is
 * the API's to refuse. */
type Query<Path extends keyof paths> = paths[Path] extends {
  get: { parameters: { query?: infer Q } };
}
  ? NonNullable<Q>
  : never;
export type JobFilter = Query<"/api/v1/jobs">;
export type CompletionFilter = Query<"/api/v1/completions">;
export type DispatchFilter = Query<"/api/v1/dispatches">;
export type PeopleFilter = Query<"/api/v1/people">;
export type DeliveryFilter = Query<"/api/v1/deliveries">;

type Page<T> = { items: T[]; nextCursor?: string | null };

/** A list that is read on by "More": `read` gets the cursor of the page. */
export function list<P extends Page<unknown>>(
  key: readonly unknown[],
  read: (cursor: string | undefined) => Promise<P>,
) {
  return infiniteQueryOptions({
    queryKey: key,
    queryFn: ({ pageParam }) => read(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.nextCursor ?? undefined,
    placeholderData: keepPreviousData,
  });
}

export const session = queryOptions({
  queryKey: ["session"],
  queryFn: () => ask(api.GET("/api/v1/session")),
  retry: false,
  staleTime: Number.POSITIVE_INFINITY,
});

export const signInMethods = queryOptions({
  queryKey: ["sign-in"],
  queryFn: () => ask(api.GET("/api/v1/sign-in")),
  retry: false,
  staleTime: Number.POSITIVE_INFINITY,
});

export const readiness = queryOptions({
  queryKey: ["readiness"],
  queryFn: () => ask(api.GET("/readyz")),
});

export const summary = queryOptions({
  queryKey: ["summary"],
  queryFn: () => ask(api.GET("/api/v1/metrics/summary")),
});

export const queues = queryOptions({
  queryKey: ["queues"],
  queryFn: () => ask(api.GET("/api/v1/queues")),
});

export const workers = queryOptions({
  queryKey: ["workers"],
  queryFn: () => ask(api.GET("/api/v1/workers")),
});

export const schedules = queryOptions({
  queryKey: ["schedules"],
  queryFn: () => ask(api.GET("/api/v1/schedules")),
});

export const destinations = queryOptions({
  queryKey: ["destinations"],
  queryFn: () => ask(api.GET("/api/v1/destinations")),
});

export const alerts = (state: "open" | "cleared" | "all") =>
  list(["alerts", "list", state], (cursor) =>
    ask(api.GET("/api/v1/alerts", { params: { query: { state, cursor, limit: PAGE } } })),
  );

export const alertRules = queryOptions({
  queryKey: ["alerts", "rules"],
  queryFn: () => ask(api.GET("/api/v1/alert-rules")),
});

/** The last hour by minute, or the last day by hour. */
export const history = (metric: string, resolution: "minute" | "hour") =>
  queryOptions({
    queryKey: ["history", metric, resolution],
    queryFn: () =>
      ask(api.GET("/api/v1/metrics/history", { params: { query: { metric, resolution } } })),
    placeholderData: keepPreviousData,
  });

export const settings = queryOptions({
  queryKey: ["settings"],
  queryFn: () => ask(api.GET("/api/v1/settings")),
});

export const jobs = (filter: JobFilter) =>
  list(["jobs", "list", filter], (cursor) =>
    ask(api.GET("/api/v1/jobs", { params: { query: { ...filter, cursor, limit: PAGE } } })),
  );

export const job = (jobId: string) =>
  queryOptions({
    queryKey: ["jobs", "one", jobId],
    queryFn: () => ask(api.GET("/api/v1/jobs/{jobId}", { params: { path: { jobId } } })),
  });

export const completions = (filter: CompletionFilter) =>
  list(["completions", "list", filter], (cursor) =>
    ask(api.GET("/api/v1/completions", { params: { query: { ...filter, cursor, limit: PAGE } } })),
  );

export const completion = (completionId: string) =>
  queryOptions({
    queryKey: ["completions", "one", completionId],
    queryFn: () =>
      ask(api.GET("/api/v1/completions/{completionId}", { params: { path: { completionId } } })),
  });

/** How many steps a retry would start, with the same filter as the list. */
export const retriable = (filter: Omit<CompletionRetry, "dryRun">) =>
  queryOptions({
    queryKey: ["completions", "retriable", filter],
    queryFn: () => ask(api.POST("/api/v1/completions/retry", { body: { ...filter, dryRun: true } })),
  });

export const dispatches = (filter: DispatchFilter) =>
  list(["dispatches", filter], (cursor) =>
    ask(api.GET("/api/v1/dispatches", { params: { query: { ...filter, cursor, limit: PAGE } } })),
  );

export const deliveries = (filter: DeliveryFilter) =>
  list(["deliveries", filter], (cursor) =>
    ask(api.GET("/api/v1/deliveries", { params: { query: { ...filter, cursor, limit: PAGE } } })),
  );

export const suppressions = list(["suppressions"], (cursor) =>
  ask(api.GET("/api/v1/suppressions", { params: { query: { cursor, limit: PAGE } } })),
);

export const audit = (subject: string | undefined) =>
  list(["audit", subject], (cursor) =>
    ask(api.GET("/api/v1/audit", { params: { query: { subject, cursor, limit: PAGE } } })),
  );

export const courses = (archived: boolean) =>
  list(["courses", "list", archived], (cursor) =>
    ask(api.GET("/api/v1/courses", { params: { query: { archived, cursor, limit: PAGE } } })),
  );

export const course = (courseId: string) =>
  queryOptions({
    queryKey: ["courses", "one", courseId],
    queryFn: () =>
      ask(api.GET("/api/v1/courses/{courseId}", { params: { path: { courseId } } })),
  });

/** The latest enrolment; null where there is none, as with a course that enrols by itself. */
export const enrolment = (courseId: string, userId: string) =>
  queryOptions({
    queryKey: ["enrolments", courseId, userId],
    queryFn: () =>
      ask(
        api.GET("/api/v1/courses/{courseId}/enrolments/{userId}", {
          params: { path: { courseId, userId } },
        }),
      ).catch((error: unknown) => {
        if (error instanceof ApiError && (error.status === 404 || error.status === 403)) return null;
        throw error;
      }),
  });

/** A person of the directory; null for one that is not in it, or that the session may not read. */
export const person = (userId: string) =>
  queryOptions({
    queryKey: ["people", "one", userId],
    queryFn: () =>
      ask(api.GET("/api/v1/people/{userId}", { params: { path: { userId } } })).catch(
        (error: unknown) => {
          if (error instanceof ApiError && (error.status === 404 || error.status === 403)) return null;
          throw error;
        },
      ),
  });

export const people = (filter: PeopleFilter) =>
  list(["people", "list", filter], (cursor) =>
    ask(api.GET("/api/v1/people", { params: { query: { ...filter, cursor, limit: PAGE } } })),
  );

export const learners = (courseId: string) =>
  list(["progress", "learners", courseId], (cursor) =>
    ask(
      api.GET("/api/v1/courses/{courseId}/learners", {
        params: { path: { courseId }, query: { cursor, limit: PAGE } },
      }),
    ),
  );

export const coursesOf = (userId: string) =>
  list(["progress", "person", userId], (cursor) =>
    ask(
      api.GET("/api/v1/people/{userId}/progress", {
        params: { path: { userId }, query: { cursor, limit: PAGE } },
      }),
    ),
  );

/** What rules have awarded to a learner, and what is next; they change with completions. */
export const achievementsOf = (userId: string) =>
  queryOptions({
    queryKey: ["completions", "achievements", userId],
    queryFn: () =>
      ask(api.GET("/api/v1/achievements", { params: { query: { userId, limit: 1 } } })),
  });

export const progressOf = (courseId: string, userId: string) =>
  queryOptions({
    queryKey: ["progress", "one", courseId, userId],
    queryFn: () =>
      ask(
        api.GET("/api/v1/courses/{courseId}/progress", {
          params: { path: { courseId }, query: { userId } },
        }),
      ),
  });

export const historyOf = (courseId: string, userId: string) =>
  list(["progress", "history", courseId, userId], (cursor) =>
    ask(
      api.GET("/api/v1/courses/{courseId}/progress/history", {
        params: { path: { courseId }, query: { userId, cursor, limit: PAGE } },
      }),
    ),
  );
