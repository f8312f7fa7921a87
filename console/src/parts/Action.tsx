/** Buttons that change something: asked about first where it cannot be undone, and answered. */

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { ApiError } from "../api/client";
import type { Role } from "../api/schema";
import { useHasRole } from "./session";

interface ActionProps {
  label: string;
  /** What it is done to, for screen readers: "Retry" of a row says "Retry 0193...". */
  subject?: string;
  run: () => Promise<unknown>;
  /** What is asked before; without it the action is done at once. */
  question?: string;
  /** Turns the answer into the words that are shown after it. */
  said?: (answer: never) => string;
  primary?: boolean;
  disabled?: boolean;
  /** Who may do it; operators, if it is not said. */
  roles?: readonly Role[];
}

const OPERATORS = ["operator"] as const;

/** A button that those who may only look do not see. */
export function Action(props: ActionProps) {
  const { label, subject, run, question, said, primary, disabled, roles = OPERATORS } = props;
  const t = useTranslations();
  const dialog = useRef<HTMLDialogElement>(null);
  const client = useQueryClient();
  const [answer, setAnswer] = useState("");
  const action = useMutation({
    mutationFn: run,
    onSuccess: (data) => setAnswer(said ? said(data as never) : "✓"),
    onError: (error) =>
      setAnswer(
        error instanceof ApiError && error.status === 0
          ? t("problem.unreachable")
          : [error.message, error instanceof ApiError && error.problem.hint].filter(Boolean).join(" "),
      ),
    onSettled: () => client.invalidateQueries(),
  });
  if (!useHasRole(...roles)) return null;
  const start = () => {
    setAnswer("");
    if (question) dialog.current?.showModal();
    else action.mutate();
  };
  const className = primary ? "primary" : undefined;
  return (
    <span className="action">
      <button
        type="button"
        className={className}
        onClick={start}
        disabled={disabled || action.isPending}
        aria-label={subject ? `${label}: ${subject}` : undefined}
      >
        {label}
      </button>
      <span role="status" className={action.isError ? "bad" : "good"}>
        {answer}
      </span>
      {question && (
        <dialog ref={dialog} aria-label={label}>
          <form method="dialog">
            <p>{question}</p>
            <div className="buttons">
              <button type="submit" className="primary" onClick={() => action.mutate()}>
                {label}
              </button>
              <button type="submit">{t("common.cancel")}</button>
            </div>
          </form>
        </dialog>
      )}
    </span>
  );
}
