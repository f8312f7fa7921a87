/** What is shown instead of an answer: that it loads, that there is none, or what went wrong. */

import type { ReactNode } from "react";
import { useTranslations } from "use-intl";
import { ApiError } from "../api/client";

export function Loading() {
  const t = useTranslations("common");
  return <p className="quiet">{t("loading")}</p>;
}

export function Empty({ title, text }: { title: string; text?: ReactNode }) {
  return (
    <div className="empty">
      <p>{title}</p>
      {text && <p className="quiet">{text}</p>}
    </div>
  );
}

/** An error in the words of the API, with its hint and the id of the request for the log. */
export function ProblemBox({ error, onAgain }: { error: Error; onAgain?: () => void }) {
  const t = useTranslations("problem");
  const known = error instanceof ApiError ? error : undefined;
  const text =
    known?.status === 0 ? t("unreachable") : known?.status === 403 ? t("forbidden") : error.message;
  return (
    <div className="problem" role="alert">
      <p>{text}</p>
      {known?.status === 403 && <p className="quiet">{known.message}</p>}
      {known?.problem.hint && <p>{known.problem.hint}</p>}
      {known?.problem.instance && <p className="quiet">{known.problem.instance}</p>}
      {onAgain && (
        <button type="button" onClick={onAgain}>
          {t("again")}
        </button>
      )}
    </div>
  );
}
