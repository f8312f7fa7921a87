import type { ProgressInput } from "./event.js";
import { uuidv7 } from "./uuid.js";

/** The parts of an xAPI statement (1.0.3 and 2.0) that are read. */
export interface XapiStatement {
  id?: string;
  timestamp?: string;
  verb?: { id?: string };
  object?: { id?: string };
  result?: {
    score?: { scaled?: number; raw?: number; min?: number; max?: number };
    completion?: boolean;
    success?: boolean;
    /** ISO 8601. */
    duration?: string;
    extensions?: Record<string, unknown>;
  };
}

export interface XapiTarget {
  courseId: string;
  /** The chapter, or a function that finds it by the statement; undefined: not reported. */
  chapterId: string | ((statement: XapiStatement) => string | undefined);
}

const PROGRESS = [
  "https://w3id.org/xapi/cmi5/result/extensions/progress",
  "https://w3id.org/xapi/video/extensions/progress",
];

/** Return the seconds of an ISO 8601 duration; undefined for what is none, or has months. */
export function durationSeconds(text: string | undefined): number | undefined {
  const parts =
    /^P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?$/.exec(
      text ?? "",
    );
  if (!parts || text!.length < 3) return undefined;
  const [, weeks = 0, days = 0, hours = 0, minutes = 0, seconds = 0] = parts;
  return ((+weeks * 7 + +days) * 24 + +hours) * 3_600 + +minutes * 60 + +seconds;
}

/**
 * Translate a statement of authored content into events for `enqueue`: `completed`, `progressed`,
 * `passed` and `failed`; every other verb gives none.
 *
 * A score makes a quiz attempt, also with `completed`: H5P says it so. Repeating a statement that
 * has an id repeats its events, which count once.
 */
export function eventsOfStatement(statement: XapiStatement, target: XapiTarget): ProgressInput[] {
  const verb = /^https?:\/\/adlnet\.gov\/expapi\/verbs\/(completed|progressed|passed|failed)$/.exec(
    statement.verb?.id ?? "",
  )?.[1];
  const chapterId =
    typeof target.chapterId == "string" ? target.chapterId : target.chapterId(statement);
  if (!verb || !chapterId) return [];
  const { result = {} } = statement;
  const id = statement.id ?? uuidv7();
  const at = Date.parse(statement.timestamp ?? "");
  const seconds = durationSeconds(result.duration);
  const common = {
    courseId: target.courseId,
    chapterId,
    ...(at >= 0 && { timestamp: at }),
    metadata: { xapiVerb: verb, ...(statement.object?.id && { xapiObject: statement.object.id.slice(0, 500) }) },
  };
  // The time of a statement counts with one of its events.
  const timeSpent = seconds != null && { timeSpent: Math.min(86_400, seconds) };
  const quiz = quizOf(statement, verb);
  const events: ProgressInput[] = [];
  if (quiz) events.push({ ...common, ...timeSpent, id: `${id}.quiz`, eventType: "quiz_attempt", quiz: { attemptId: id, ...quiz } });
  if (verb == "completed" && result.completion !== false) {
    events.push({ ...common, ...(!quiz && timeSpent), id: `${id}.complete`, eventType: "chapter_complete" });
  }
  if (verb == "progressed") {
    const found = PROGRESS.map((name) => result.extensions?.[name]).find((value) => value != null);
    // cmi5 has percent, the video profile a part of one.
    const percent = Number(found) * (result.extensions?.[PROGRESS[0]!] == null ? 100 : 1);
    if (found != null && percent >= 0) {
      events.push({ ...common, ...timeSpent, id: `${id}.progress`, eventType: "chapter_progress", progress: percent });
    }
  }
  return events;
}

/** Return the points of a statement; `passed` and `failed` without a score are all or nothing. */
function quizOf({ result = {} }: XapiStatement, verb: string): { score: number; maxScore: number } | undefined {
  const { raw, min = 0, max, scaled } = result.score ?? {};
  if (raw != null && max != null && max > min) {
    return { score: Math.min(max, Math.max(min, raw)) - min, maxScore: max - min };
  }
  if (scaled != null) return { score: Math.min(1, Math.max(0, scaled)), maxScore: 1 };
  if (verb == "passed") return { score: 1, maxScore: 1 };
  if (verb == "failed") return { score: 0, maxScore: 1 };
  return undefined;
}
