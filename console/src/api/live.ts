/** Hints of changes: the server says what changed, and the queries about it are asked again. */

import type { QueryClient } from "@tanstack/react-query";

/** The first word of the keys of queries that a topic of hints concerns. */
const CONCERNED: Record<string, readonly string[]> = {
  job: ["jobs", "queues", "summary"],
  jobs: ["jobs", "queues", "summary"],
  "jobs-delayed": ["jobs", "queues"],
  completions: ["completions", "summary", "progress"],
  credentials: ["completions", "progress"],
  dispatches: ["dispatches", "destinations"],
  progress: ["progress"],
  enrolments: ["progress", "enrolments"],
  notifications: ["deliveries"],
  programmes: ["programmes", "logs"],
  "activity-logs": ["programmes", "logs"],
  "lesson-plans": ["plans"],
};
/** Hints of this time are answered by one round of queries, so that a busy hour asks no more. */
const GATHER_MS = 1_500;

export type LiveState = "live" | "polling" | "paused";

/**
 * Follow the server's hints until the returned function is called.
 *
 * The stream is closed while the page is hidden; what changed meanwhile is asked for when it is
 * shown again. While the stream is down, pages poll (`onState` says so).
 */
export function followHints(
  client: QueryClient,
  onState: (state: LiveState) => void,
): () => void {
  let stream: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const changed = new Set<string>();

  const refresh = () => {
    timer = undefined;
    const all = changed.has("*");
    void client.invalidateQueries({
      predicate: ({ queryKey }) => all || changed.has(String(queryKey[0])),
    });
    changed.clear();
  };
  const gather = (keys: readonly string[]) => {
    for (const key of keys) changed.add(key);
    timer ??= setTimeout(refresh, GATHER_MS);
  };
  const open = () => {
    stream?.close();
    stream = new EventSource("/api/v1/events");
    stream.onopen = () => onState("live");
    stream.onerror = () => onState("polling");
    stream.onmessage = ({ data }) => {
      const { topic } = JSON.parse(data) as { topic: string };
      gather(topic === "*" ? ["*"] : (CONCERNED[topic] ?? [topic]));
    };
  };
  const onVisibility = () => {
    if (document.hidden) {
      stream?.close();
      onState("paused");
    } else {
      open();
      gather(["*"]);
    }
  };
  document.addEventListener("visibilitychange", onVisibility);
  if (!document.hidden) open();
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    clearTimeout(timer);
    stream?.close();
  };
}
