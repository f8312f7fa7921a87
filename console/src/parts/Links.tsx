/** Links between records: a job to its learner, a learner to its course, and back. */

import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";

/** Ids of so many characters stay on one line. */
const SHORT = 20;

export function JobLink({ id }: { id: string | null | undefined }) {
  const t = useTranslations("common");
  if (!id) return <>{t("none")}</>;
  return (
    <Link to="/console/jobs/$jobId" params={{ jobId: id }} className="id">
      {id}
    </Link>
  );
}

export function LearnerLink({ id }: { id: string | null | undefined }) {
  const t = useTranslations("common");
  if (!id) return <>{t("none")}</>;
  return (
    <Link
      to="/console/learners/$userId"
      params={{ userId: id }}
      className={id.length <= SHORT ? "nowrap" : undefined}
    >
      {id}
    </Link>
  );
}

export function CourseLink({ id, title }: { id: string | null | undefined; title?: string }) {
  const t = useTranslations("common");
  if (!id) return <>{t("none")}</>;
  return (
    <Link to="/console/courses/$courseId" params={{ courseId: id }}>
      {title ?? id}
    </Link>
  );
}

export function CompletionLink({ id }: { id: string | null | undefined }) {
  const t = useTranslations("common");
  if (!id) return <>{t("none")}</>;
  return (
    <Link to="/console/completions/$completionId" params={{ completionId: id }} className="id">
      {id}
    </Link>
  );
}
