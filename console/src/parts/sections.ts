/** The sections of the console, and which roles have them in their menu. */

import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { ApiError } from "../api/client";
import { team } from "../api/people_queries";
import { session } from "../api/queries";
import type { Role } from "../api/schema";

const WATCH = ["operator", "viewer"] as const;

/** Name, address, and the roles whose work it is; an admin has all of them. */
const SECTIONS = [
  ["overview", "/console", WATCH],
  ["alerts", "/console/alerts", WATCH],
  ["logs", "/console/logs", ["facilitator"]],
  ["programmes", "/console/programmes", ["manager", ...WATCH]],
  ["team", "/console/team", ["manager"]],
  ["plans", "/console/plans", ["author", "facilitator", "manager", ...WATCH]],
  ["completions", "/console/completions", WATCH],
  ["courses", "/console/courses", ["author", ...WATCH]],
  ["people", "/console/people", ["service", ...WATCH]],
  ["imports", "/console/imports", ["service", "author"]],
  ["jobs", "/console/jobs", WATCH],
  ["queues", "/console/queues", WATCH],
  ["workers", "/console/workers", WATCH],
  ["destinations", "/console/destinations", WATCH],
  ["dispatches", "/console/dispatches", WATCH],
  ["schedules", "/console/schedules", WATCH],
  ["deliveries", "/console/messages", WATCH],
  ["suppressions", "/console/suppressions", WATCH],
  ["audit", "/console/audit", WATCH],
  ["settings", "/console/settings", WATCH],
] as const satisfies readonly (readonly [string, string, readonly Role[]])[];

/** Return the sections of the session's roles; what is of a person is not for an API key. */
export function useSections(): readonly (typeof SECTIONS)[number][] {
  const { data } = useQuery(session);
  const roles: readonly Role[] = data?.roles ?? [];
  const may = (who: readonly Role[]) =>
    roles.includes("admin") || who.some((role) => roles.includes(role));
  const hasTeam = Boolean(data?.userId) && may(["manager"]);
  // A server of the release before has no such route.
  const { error } = useInfiniteQuery({ ...team, enabled: hasTeam, staleTime: 60_000 });
  return SECTIONS.filter(([name, , who]) => {
    if (name === "logs" && !data?.userId) return false;
    if (name === "team") return hasTeam && !(error instanceof ApiError && error.status === 404);
    return may(who);
  });
}
