/** The questions of facilitators', managers' and authors' pages. */

import { queryOptions } from "@tanstack/react-query";
import { api, ask } from "./client";
import { list } from "./queries";

const PAGE = 50;
/** How often a plan is asked for while its lessons are written. */
const WRITING_MS = 1_500;

/** The signed-in facilitator's logs: those that are missing, or all. */
export const ownLogs = (outstanding: boolean) =>
  list(["logs", "own", outstanding], (cursor) =>
    ask(api.GET("/api/v1/log-obligations", { params: { query: { outstanding, cursor, limit: PAGE } } })),
  );

export const activityLog = (logId: string | null | undefined) =>
  queryOptions({
    queryKey: ["logs", "one", logId],
    queryFn: () =>
      ask(
        api.GET("/api/v1/activity-logs/{logId}", { params: { path: { logId: logId as string } } }),
      ),
    enabled: Boolean(logId),
  });

export const programmes = list(["programmes", "list"], (cursor) =>
  ask(api.GET("/api/v1/programmes", { params: { query: { cursor, limit: PAGE } } })),
);

export const programme = (programmeId: string) =>
  queryOptions({
    queryKey: ["programmes", "one", programmeId],
    queryFn: () =>
      ask(
        api.GET("/api/v1/programmes/{programmeId}", { params: { path: { programmeId } } }),
      ),
  });

/** A programme's offerings with a cell for each week. */
export const programmeWeeks = (programmeId: string, from?: string, to?: string) =>
  list(["programmes", "weeks", programmeId, from, to], (cursor) =>
    ask(
      api.GET("/api/v1/programmes/{programmeId}/weeks", {
        params: { path: { programmeId }, query: { from, to, cursor, limit: PAGE } },
      }),
    ),
  );

export const upcoming = (programmeId: string) =>
  queryOptions({
    queryKey: ["programmes", "upcoming", programmeId],
    queryFn: () =>
      ask(
        api.GET("/api/v1/programmes/{programmeId}/upcoming", { params: { path: { programmeId } } }),
      ),
  });

export const exemptions = (programmeId: string) =>
  queryOptions({
    queryKey: ["programmes", "exemptions", programmeId],
    queryFn: () =>
      ask(
        api.GET("/api/v1/programmes/{programmeId}/exemptions", {
          params: { path: { programmeId } },
        }),
      ),
  });

export const plans = list(["plans", "list"], (cursor) =>
  ask(api.GET("/api/v3/workflow", { params: { query: { cursor, limit: PAGE } } })),
);

/** What of a plan the page shows; the API's schema leaves the rest open. */
export interface PlanLesson {
  id: string;
  number: string;
  title: string;
  durationMinutes: number;
  written: boolean;
  edited: boolean;
  gaps: { code: string; message: string; field?: string }[];
  openPlaces: { field: string; asks: string }[];
}
export interface Plan {
  workflowId: string;
  title: string;
  courseId: string | null;
  status: string;
  modules: { id: string; title: string; contactHours: number; lessons: PlanLesson[] }[];
}

export const plan = (planId: string) =>
  queryOptions({
    queryKey: ["plans", "one", planId],
    queryFn: async () => {
      const answer = await ask(
        api.GET("/api/v3/workflow/{workflowId}/step10", {
          params: { path: { workflowId: planId } },
        }),
      );
      return answer.data as unknown as Plan;
    },
  });

export const planStatus = (planId: string) =>
  queryOptions({
    queryKey: ["plans", "status", planId],
    queryFn: async () => {
      const answer = await ask(
        api.GET("/api/v3/workflow/{workflowId}/step10/status", {
          params: { path: { workflowId: planId } },
        }),
      );
      return answer.data;
    },
    refetchInterval: ({ state }) => (state.data?.status === "in_progress" ? WRITING_MS : false),
  });

export const lesson = (planId: string, lessonId: string) =>
  queryOptions({
    queryKey: ["plans", "lesson", planId, lessonId],
    queryFn: async () => {
      const answer = await ask(
        api.GET("/api/v3/workflow/{workflowId}/step10/lessons/{lessonId}", {
          params: { path: { workflowId: planId, lessonId } },
        }),
      );
      return answer.data;
    },
  });

/** A person of a manager, with the courses that they are in. */
export interface TeamMember {
  userId: string;
  name: string;
  email?: string | null;
  relation: ("report" | "facilitator")[];
  courses: {
    courseId: string;
    title: string;
    status: string | null;
    progress: number | null;
    lastActivityAt: string | null;
    completedAt: string | null;
  }[];
  behind: boolean;
  reason: string | null;
}

export const team = list(["progress", "team"], async (cursor) => {
  const query = new URLSearchParams({ limit: String(PAGE), ...(cursor && { cursor }) });
  const response = await fetch(`/api/v1/team?${query}`);
  const body: unknown = await response.json().catch(() => ({}));
  return ask<{ items: TeamMember[]; nextCursor?: string | null }>(
    Promise.resolve(
      response.ok ? { data: body as never, response } : { error: body, response },
    ),
  );
});
