// Homeroom's queues, as a Node service sees them: what a job looks like, and where it goes.
import { Queue } from "bullmq";

// Everything of Homeroom lies under this prefix. The braces keep it in one slot of a cluster.
export const PREFIX = "{homeroom}";

// The job kinds that other programs may add, and the queue of each (docs/node.md has the table).
export const QUEUES = {
  "completion.credential": "credentials",
  "completion.analytics": "dispatch",
  "completion.hr": "dispatch",
  "completion.xapi": "dispatch",
  "progress.replay_quarantine": "progress",
};

// All of Homeroom's queues, for what only looks at them.
export const ALL_QUEUES = [
  "activity",
  "credentials",
  "deadline-warnings",
  "dispatch",
  "facilitator-reminders",
  "learner-messages",
  "lessonplans",
  "manager-alerts",
  "progress",
  "upkeep",
];

// Homeroom counts from 1 to 10, and 10 is the most urgent; BullMQ counts the other way, and puts a
// job without a priority before all others.
export const HIGH = 10;
export const NORMAL = 5;
export const LOW = 1;

export function connection(url = process.env.HOMEROOM_QUEUE_URL ?? "redis://127.0.0.1:6379") {
  const { protocol, hostname, port, username, password, pathname } = new URL(url);
  return {
    host: hostname,
    port: Number(port || 6379),
    username: decodeURIComponent(username) || undefined,
    password: decodeURIComponent(password) || undefined,
    db: Number(pathname.slice(1) || 0),
    tls: protocol === "rediss:" ? {} : undefined,
  };
}

export function open(name) {
  return new Queue(name, { connection: connection(), prefix: PREFIX });
}

// Add a job. `id` is its natural id: adding it again is the same job, for as long as Homeroom knows
// it. Retries, backoff and time-out are those of the kind; BullMQ's options for them do nothing.
export async function add(queue, kind, args, { id, priority = NORMAL, delay } = {}) {
  if (QUEUES[kind] !== queue.name) {
    throw new Error(`jobs of the kind ${kind} belong into the queue ${QUEUES[kind]}`);
  }
  if (!Number.isInteger(priority) || priority < 1 || priority > 10) {
    throw new Error("a priority is 1 to 10, and 10 is the most urgent");
  }
  return queue.add(kind, { version: 1, args }, { jobId: id, priority: 11 - priority, delay });
}
