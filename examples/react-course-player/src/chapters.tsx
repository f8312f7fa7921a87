import { ClientProgressQueue, trackVideo } from "@homeroom/client";
import { useProgressMutation } from "@homeroom/client/react";
import { useEffect, useRef, useState } from "react";
import type { FormEvent } from "react";
import { silentFilm } from "./film.ts";

export interface ChapterProps {
  courseId: string;
  chapterId: string;
}

const SCENES = ["Kneel beside the person.", "Far arm across the chest.", "Roll by the far knee.", "Tilt the head back."];
const FILM_SECONDS = 20;

/** A film: what is really played counts, a seek to the end does not. */
export function Film({ queue, courseId, chapterId }: ChapterProps & { queue: ClientProgressQueue }) {
  const video = useRef<HTMLVideoElement>(null);
  const [source] = useState(() => silentFilm(FILM_SECONDS));
  const [second, setSecond] = useState(0);
  useEffect(
    () => trackVideo(queue, video.current!, { courseId, chapterId, every: 2 }),
    [queue, courseId, chapterId],
  );
  const scene = Math.min(Math.floor((second / FILM_SECONDS) * SCENES.length), SCENES.length - 1);
  return (
    <figure className="film">
      <p>{SCENES[scene]}</p>
      <video ref={video} src={source} controls onTimeUpdate={(event) => setSecond(event.currentTarget.currentTime)} />
    </figure>
  );
}

/** A text: it is complete when the learner says so. */
export function Text({ courseId, chapterId }: ChapterProps) {
  const { mutate } = useProgressMutation();
  const [opened] = useState(Date.now);
  const done = () =>
    mutate({ courseId, chapterId, eventType: "chapter_complete", timeSpent: (Date.now() - opened) / 1_000 });
  return (
    <article>
      <p>Say where you are, what happened, and how many are hurt. Then wait for questions: the other side hangs up first.</p>
      <button onClick={done}>I have read it</button>
    </article>
  );
}

const QUESTIONS = [
  { text: "Someone does not answer, but breathes.", answers: ["Recovery position", "A glass of water"] },
  { text: "Who hangs up first?", answers: ["The other side", "You"] },
  { text: "What do you say first?", answers: ["Where you are", "Your insurance number"] },
];

/** A quiz. The first answer of each question is the right one; the course trusts this page's scores. */
export function Quiz({ courseId, chapterId }: ChapterProps) {
  const { mutate } = useProgressMutation();
  const [score, setScore] = useState<number>();
  const submit = (form: FormEvent<HTMLFormElement>) => {
    form.preventDefault();
    const given = new FormData(form.currentTarget);
    const points = QUESTIONS.filter(({ answers }, n) => given.get(`${n}`) == answers[0]).length;
    const quiz = { attemptId: crypto.randomUUID(), score: points, maxScore: QUESTIONS.length };
    mutate({ courseId, chapterId, eventType: "quiz_attempt", quiz });
    setScore(points);
  };
  return (
    <form onSubmit={submit}>
      {QUESTIONS.map(({ text, answers }, n) => (
        <fieldset key={text}>
          <legend>{text}</legend>
          {[...answers].sort().map((answer) => (
            <label key={answer}>
              <input type="radio" name={`${n}`} value={answer} required /> {answer}
            </label>
          ))}
        </fieldset>
      ))}
      <button>Hand in</button>
      {score != null && <output>{score} of {QUESTIONS.length}</output>}
    </form>
  );
}
