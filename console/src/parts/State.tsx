/** States as a mark and a word, never as a colour alone. */

import { useTranslations } from "use-intl";

type Mood = "good" | "bad" | "busy" | "calm" | "warn";
const MARKS: Record<Mood, string> = { good: "✓", bad: "✕", busy: "▶", calm: "○", warn: "!" };
const MOODS: Record<string, Mood> = {
  completed: "good",
  delivered: "good",
  accepted: "good",
  ok: "good",
  on: "good",
  running: "good",
  failed: "bad",
  bounced: "bad",
  complained: "bad",
  refused: "bad",
  gone: "bad",
  missed: "bad",
  submitted: "good",
  complete: "good",
  open: "busy",
  late: "warn",
  down: "warn",
  active: "busy",
  sending: "busy",
  in_progress: "busy",
  critical: "bad",
  warning: "warn",
  degraded: "warn",
  away: "warn",
  stale: "warn",
  paused: "warn",
  disabled: "warn",
  unknown: "warn",
  suppressed: "warn",
};

/** A badge with a mark; `text` replaces the word for the state. */
export function State({ state, text }: { state: string; text?: string }) {
  const t = useTranslations("states");
  const mood = MOODS[state] ?? "calm";
  const word = text ?? (t.has(state as never) ? t(state as never) : state);
  return (
    <span className={`state ${mood}`}>
      <span aria-hidden="true">{MARKS[mood]}</span> {word}
    </span>
  );
}
