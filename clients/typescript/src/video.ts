import type { ClientProgressQueue } from "./queue.js";

export interface VideoOptions {
  courseId: string;
  chapterId: string;
  /** Watched seconds between two events. Default: 10. */
  every?: number;
  /** The part of the video that counts as all of it. Default: 0.95, because of credits. */
  completeAt?: number;
}

type Range = [start: number, end: number];

/** What is remembered of a video on this device, so that a later visit goes on from there. */
interface Remembered {
  position: number;
  ranges: Range[];
}

/** Return ranges in order, those that touch joined. */
export function union(ranges: Range[]): Range[] {
  const joined: Range[] = [];
  for (const [start, end] of [...ranges].sort((one, other) => one[0] - other[0])) {
    const last = joined.at(-1);
    if (last && start <= last[1] + 0.5) last[1] = Math.max(last[1], end);
    else joined.push([start, end]);
  }
  return joined;
}

/**
 * Report what a learner watches of a video (or hears of an audio) element; return what ends it.
 *
 * Progress is the part of the video that was really played, in this visit and earlier ones: who
 * drags the slider to the end has watched nothing. Time is that of the learner: a minute at double
 * speed is half a minute; pauses, buffering and a closed laptop are none. The position is restored.
 */
export function trackVideo(
  queue: ClientProgressQueue,
  video: HTMLMediaElement,
  { courseId, chapterId, every = 10, completeAt = 0.95 }: VideoOptions,
): () => void {
  const key = `homeroom-video:${queue.endpoint}:${queue.userId}:${courseId}:${chapterId}`;
  const remembered = recall(key);
  const abort = new AbortController();
  let ranges = remembered.ranges;
  let last: number | undefined;
  let rate = video.playbackRate;
  let unsent = 0;
  let isComplete = false;

  const listen = (types: string, run: () => void) => {
    for (const type of types.split(" ")) video.addEventListener(type, run, { signal: abort.signal });
  };
  const advance = () => {
    const now = video.currentTime;
    if (last != null && now > last) {
      unsent += (now - last) / rate;
      ranges = union([...ranges, [last, now]]);
    }
    if (last != null) last = now;
    rate = video.playbackRate;
  };
  const report = () => {
    const { duration, currentTime: position } = video;
    if (!(duration > 0) || duration == Infinity || unsent <= 0) return;
    const watched = ranges.reduce((sum, [start, end]) => sum + end - start, 0) / duration;
    const isDone = watched >= completeAt;
    const timeSpent = unsent;
    unsent = 0;
    try {
      localStorage.setItem(key, JSON.stringify({ position: video.ended ? 0 : position, ranges }));
    } catch {
      // A later visit starts at the beginning.
    }
    const progress = isDone ? 100 : Math.floor(watched * 1_000) / 10;
    const metadata = { videoPosition: Math.round(position) };
    void queue.enqueue({ courseId, chapterId, eventType: "chapter_progress", progress, timeSpent, metadata });
    if (isDone && !isComplete) void queue.enqueue({ courseId, chapterId, eventType: "chapter_complete" });
    isComplete ||= isDone;
  };

  const restore = () => {
    if (remembered.position < video.duration - 1) video.currentTime = remembered.position;
  };
  if (video.readyState > 0) restore();
  else video.addEventListener("loadedmetadata", restore, { once: true, signal: abort.signal });
  listen("playing seeked", () => {
    last = video.paused ? undefined : video.currentTime;
    rate = video.playbackRate;
  });
  // A jump is not watched: what was played until it counts, and the next stretch begins after it.
  listen("seeking waiting emptied", () => {
    last = undefined;
  });
  listen("ratechange", advance);
  listen("timeupdate", () => {
    if (video.seeking) return;
    advance();
    if (unsent >= every) report();
  });
  listen("pause ended", () => {
    if (!video.seeking) advance();
    last = undefined;
    report();
  });
  const leave = () => {
    if (document.visibilityState == "hidden") report();
  };
  document.addEventListener("visibilitychange", leave, { signal: abort.signal });
  return () => {
    if (!video.seeking) advance();
    report();
    abort.abort();
  };
}

function recall(key: string): Remembered {
  try {
    const { position, ranges } = JSON.parse(localStorage.getItem(key)!);
    return { position: +position || 0, ranges: union(ranges) };
  } catch {
    return { position: 0, ranges: [] };
  }
}
