// @vitest-environment happy-dom
import { beforeEach, describe, expect, test } from "vitest";
import { eventsOfStatement, trackVideo } from "../src/index.js";
import type { ClientProgressQueue, ProgressInput, XapiStatement } from "../src/index.js";
import { union } from "../src/video.js";
import { durationSeconds } from "../src/xapi.js";

describe("a video", () => {
  let events: ProgressInput[];
  let video: Player;
  const queue = {
    endpoint: "https://h.example.org",
    userId: "ada",
    enqueue: async (event: ProgressInput) => void events.push(event),
  } as unknown as ClientProgressQueue;

  /** A media element whose time a test moves, as a browser would. */
  class Player extends EventTarget {
    currentTime = 0;
    duration = 100;
    playbackRate = 1;
    paused = true;
    ended = false;
    seeking = false;
    readyState = 1;
    say = (...types: string[]) => types.forEach((type) => this.dispatchEvent(new Event(type)));
    play(seconds: number) {
      this.paused = false;
      this.say("playing");
      for (let left = seconds; left > 0; left -= 0.25) {
        this.currentTime += 0.25 * this.playbackRate;
        this.say("timeupdate");
      }
    }
    pause() {
      this.paused = true;
      this.say("pause");
    }
    seek(to: number) {
      this.seeking = true;
      this.currentTime = to;
      this.say("seeking", "timeupdate");
      this.seeking = false;
      this.say("seeked", "timeupdate");
    }
    speed(rate: number) {
      this.playbackRate = rate;
      this.say("ratechange");
    }
  }
  const track = () => trackVideo(queue, video as unknown as HTMLMediaElement, { courseId: "c", chapterId: "c-1" });
  const spent = () => Math.round(events.reduce((sum, { timeSpent = 0 }) => sum + timeSpent, 0));
  const progress = () => Math.max(...events.map(({ progress = 0 }) => progress));

  beforeEach(() => {
    localStorage.clear();
    events = [];
    video = new Player();
  });

  test("reports every ten seconds and when it pauses", () => {
    track();
    video.play(25);
    expect(events.length).toBe(2);
    video.pause();
    expect([events.length, spent(), progress()]).toEqual([3, 25, 25]);
  });

  test("a seek to the end is no progress, and a part that is seen twice counts once", () => {
    track();
    video.play(20);
    video.seek(90);
    video.play(5);
    video.seek(0);
    video.play(10);
    video.pause();
    expect([spent(), progress()]).toEqual([35, 25]);
  });

  test("at double speed the learner spends half the time", () => {
    track();
    video.play(10);
    video.speed(2);
    video.play(20);
    video.pause();
    expect([spent(), progress()]).toEqual([30, 50]);
  });

  test("a later visit goes on where the last one was", () => {
    track();
    video.play(40);
    video.pause();
    video = new Player();
    const stop = track();
    expect(video.currentTime).toBe(40);
    video.play(56);
    stop();
    expect([spent(), progress()]).toEqual([96, 100]);
    expect(events.filter(({ eventType }) => eventType == "chapter_complete").length).toBe(1);
    video.play(4);
    expect(spent()).toBe(96);
  });

  test("ranges that touch are one", () => {
    expect(union([[5, 9], [0, 2], [2.25, 4], [8, 10]])).toEqual([[0, 4], [5, 10]]);
  });
});

describe("a statement", () => {
  const say = (verb: string, result?: XapiStatement["result"], host = "http://adlnet.gov/expapi/verbs/"): XapiStatement => ({
    id: "s", timestamp: "2026-11-30T10:00:00Z", verb: { id: host + verb }, object: { id: "https://x.example.org/a" }, ...(result && { result }),
  });
  const translate = (statement: XapiStatement) =>
    eventsOfStatement(statement, { courseId: "c", chapterId: "c-1" }).map(({ eventType, id, progress, timeSpent, quiz }) =>
      JSON.parse(JSON.stringify({ eventType, id, progress, timeSpent, quiz })),
    );

  test.each([
    ["completed", { duration: "PT1H2M3.5S" }, [{ eventType: "chapter_complete", id: "s.complete", timeSpent: 3723.5 }]],
    ["completed", { completion: false }, []],
    ["completed", { score: { raw: 3, min: 1, max: 5 }, duration: "PT4S" }, [
      { eventType: "quiz_attempt", id: "s.quiz", timeSpent: 4, quiz: { attemptId: "s", score: 2, maxScore: 4 } },
      { eventType: "chapter_complete", id: "s.complete" },
    ]],
    ["progressed", { extensions: { "https://w3id.org/xapi/cmi5/result/extensions/progress": 40 } }, [
      { eventType: "chapter_progress", id: "s.progress", progress: 40 },
    ]],
    ["progressed", { extensions: { "https://w3id.org/xapi/video/extensions/progress": 0.4 } }, [
      { eventType: "chapter_progress", id: "s.progress", progress: 40 },
    ]],
    ["progressed", {}, []],
    ["passed", { score: { scaled: 0.8 } }, [{ eventType: "quiz_attempt", id: "s.quiz", quiz: { attemptId: "s", score: 0.8, maxScore: 1 } }]],
    ["passed", {}, [{ eventType: "quiz_attempt", id: "s.quiz", quiz: { attemptId: "s", score: 1, maxScore: 1 } }]],
    ["failed", { score: { scaled: -0.5 } }, [{ eventType: "quiz_attempt", id: "s.quiz", quiz: { attemptId: "s", score: 0, maxScore: 1 } }]],
    ["answered", { score: { scaled: 1 } }, []],
  ])("%s %j", (verb, result, expected) => {
    expect(translate(say(verb, result))).toEqual(expected);
  });

  test("of another vocabulary or of no chapter gives nothing", () => {
    expect(translate(say("completed", {}, "https://evil.example.org/verbs/"))).toEqual([]);
    expect(eventsOfStatement(say("completed"), { courseId: "c", chapterId: () => undefined })).toEqual([]);
    expect(eventsOfStatement({}, { courseId: "c", chapterId: "c-1" })).toEqual([]);
  });

  test("without id and time has those of now", () => {
    const [event] = eventsOfStatement({ verb: { id: "http://adlnet.gov/expapi/verbs/completed" } }, { courseId: "c", chapterId: "c-1" });
    expect([event!.timestamp, event!.id!.length]).toEqual([undefined, 45]);
  });

  test.each([["PT0S", 0], ["P1DT1S", 86_401], ["P1W", 604_800], ["P1M", undefined], ["P", undefined], ["5", undefined]])(
    "lasts %s", (text, seconds) => expect(durationSeconds(text)).toBe(seconds),
  );
});
