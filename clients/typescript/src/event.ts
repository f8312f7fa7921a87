import { uuidv7 } from "./uuid.js";

/** The types of events that players send. A reset needs the role service or manager. */
export type EventType =
  | "chapter_progress"
  | "chapter_complete"
  | "quiz_attempt"
  | "heartbeat"
  | "progress_reset";

/** A quiz attempt: raw points out of `maxScore`. */
export interface Quiz {
  attemptId: string;
  score: number;
  maxScore: number;
}

/** What a player reports. `id`, `timestamp` and `userId` are filled in where they are missing. */
export interface ProgressInput {
  /** Counts once for all time. Default: a UUIDv7. */
  id?: string;
  /** Default, and the only value allowed: the user of the queue. */
  userId?: string;
  courseId: string;
  chapterId?: string;
  eventType: EventType;
  /** Percent of the chapter; clamped to 0 to 100. */
  progress?: number;
  /** Seconds since the player's last event: a delta, not a total. Fractions are carried over. */
  timeSpent?: number;
  /** Milliseconds since 1970. Default: now. */
  timestamp?: number;
  quiz?: Quiz;
  metadata?: Record<string, unknown>;
}

/** An event as it is sent. */
export interface ProgressEvent extends ProgressInput {
  id: string;
  userId: string;
  timestamp: number;
}

/** An event as it is stored until the server has it. */
export interface QueueRecord {
  event: ProgressEvent;
  /** Number of requests that contained it. From the first one on, it never changes. */
  attempts: number;
  /** Not sent before, in milliseconds: survives a reload, and so does the backoff. */
  notBefore: number;
}

export type ErrorCode =
  "invalid_event" | "event_too_large" | "metadata_too_large" | "wrong_user" | "closed";

/** An event that the queue does not take. `code` says why, `field` what is wrong. */
export class ProgressEventError extends Error {
  override name = "ProgressEventError";
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly field?: string,
  ) {
    super(message);
  }
}

const MAX_EVENT_BYTES = 8_192;
const MAX_TIME_SPENT_SECONDS = 86_400;

const encoder = new TextEncoder();

/** Return the number of bytes that a value has as JSON. */
export const jsonBytes = (value: unknown): number => encoder.encode(JSON.stringify(value)).length;

// The server's own rule: 1 to 128 characters, none of them a control character.
const isId = (value: unknown): boolean =>
  typeof value == "string" && /^[^\p{C}\p{Zl}\p{Zp}]{1,128}$/u.test(value);
const ID_RULE = "1 to 128 printable characters";
const isUpTo = (value: number, most: number): boolean => value >= 0 && value <= most;
const TYPES = /^(chapter_(progress|complete)|quiz_attempt|heartbeat|progress_reset)$/;

/** Return a complete event; throw `ProgressEventError` for one that the server would reject. */
export function completeEvent(input: ProgressInput, userId: string): ProgressEvent {
  const check = (isRight: boolean, field: string, rule: string, code: ErrorCode = "invalid_event") => {
    if (!isRight) throw new ProgressEventError(code, `${field} must be ${rule}.`, field);
  };
  const { id = uuidv7(), timestamp = Date.now() } = input;
  const event: ProgressEvent = { ...input, id, timestamp, userId };
  const { eventType, chapterId, progress, timeSpent, quiz, metadata } = event;
  check((input.userId ?? userId) === userId, "userId", "that of the queue", "wrong_user");
  check(TYPES.test(eventType), "eventType", "a known one");
  check(isId(id), "id", ID_RULE);
  check(isId(event.courseId), "courseId", ID_RULE);
  check(chapterId == null ? /^[hp]/.test(eventType) : isId(chapterId), "chapterId", ID_RULE);
  check(timestamp >= 0, "timestamp", "a number");
  if (progress != null) event.progress = Math.min(100, Math.max(0, progress));
  check(isUpTo(event.progress ?? 0, 100), "progress", "a number");
  check(isUpTo(timeSpent ?? 0, MAX_TIME_SPENT_SECONDS), "timeSpent", "0 to 86400");
  check(
    eventType != "quiz_attempt" ||
      (isId(quiz?.attemptId) && quiz!.maxScore > 0 && isUpTo(quiz!.score, quiz!.maxScore)),
    "quiz",
    "{attemptId, score, maxScore}",
  );
  check(!metadata || jsonBytes(metadata) <= 4_096, "metadata", "at most 4 KiB", "metadata_too_large");
  const json = JSON.stringify(event);
  check(encoder.encode(json).length <= MAX_EVENT_BYTES, "event", "at most 8 KiB", "event_too_large");
  // A copy: what the caller does to its metadata afterwards changes no event.
  return JSON.parse(json) as ProgressEvent;
}

/** Return the key under which events are merged; undefined: this one is not merged. */
export function mergeKey({ eventType, courseId, chapterId }: ProgressEvent): string | undefined {
  return eventType == "chapter_progress" ? JSON.stringify([courseId, chapterId]) : undefined;
}

/**
 * Merge an event of the same chapter into a record that was never sent: the highest progress, the
 * sum of the time, the latest time, metadata of both with the newer value of a key. Return
 * undefined where both together are over a limit.
 */
export function merge(record: QueueRecord, event: ProgressEvent): QueueRecord | undefined {
  const { event: old } = record;
  const [early, late] = event.timestamp < old.timestamp ? [event, old] : [old, event];
  const merged = { ...early, ...late, id: old.id };
  if (early.progress! > (late.progress ?? -1)) merged.progress = early.progress!;
  if (early.timeSpent) merged.timeSpent = early.timeSpent + (late.timeSpent ?? 0);
  if (early.metadata) merged.metadata = { ...early.metadata, ...late.metadata };
  return merged.timeSpent! > MAX_TIME_SPENT_SECONDS || jsonBytes(merged) > MAX_EVENT_BYTES
    ? undefined
    : { ...record, event: merged };
}
