/** The sections of the console, and which roles have them in their menu. */

import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { ApiError } from "../api/client";
import { team } from "../api/people_queries";
import { session } from "../api/queries";
import type { Role } from "../api/schema";

const WATCH = ["operator", "viewer"] as const;

/** Name, address, the roles whose work it is (an admin has all), and the group in the menu. */
const SECTIONS = [
  ["overview", "/console", WATCH, 1],
  ["alerts", "/console/alerts", WATCH, 1],
  ["logs", "/console/logs", ["facilitator"], 2],
  ["programmes", "/console/programmes", ["manager", ...WATCH], 2],
  ["team", "/console/team", ["manager"], 2],
  ["plans", "/console/plans", ["author", "facilitator", "manager", ...WATCH], 2],
  ["completions", "/console/completions", WATCH, 3],
  ["courses", "/console/courses", ["author", ...WATCH], 3],
  ["people", "/console/people", ["service", ...WATCH], 3],
  ["imports", "/console/imports", ["service", "author"], 3],
  ["jobs", "/console/jobs", WATCH, 4],
  ["queues", "/console/queues", WATCH, 4],
  ["workers", "/console/workers", WATCH, 4],
  ["schedules", "/console/schedules", WATCH, 4],
  ["destinations", "/console/destinations", WATCH, 5],
  ["dispatches", "/console/dispatches", WATCH, 5],
  ["deliveries", "/console/messages", WATCH, 5],
  ["suppressions", "/console/suppressions", WATCH, 5],
  ["audit", "/console/audit", WATCH, 6],
  ["settings", "/console/settings", WATCH, 6],
] as const satisfies readonly (readonly [string, string, readonly Role[], number])[];

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
