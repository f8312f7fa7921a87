import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useFormatter, useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { course, enrolment, historyOf, progressOf } from "../api/queries";
import { Action } from "../parts/Action";
import { useCode } from "../parts/Code";
import { Facts } from "../parts/Facts";
import { CourseLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { Percent } from "../parts/Percent";
import { Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { span, Time } from "../parts/Time";

const AUTHORS = ["author", "service"] as const;

const LATE_MS = 60_000;

/** Whether an event came later than it happened, as from a device that was offline. */
function isLate({ occurredAt, receivedAt }: { occurredAt: string; receivedAt: string }): boolean {
  return Date.parse(receivedAt) - Date.parse(occurredAt) > LATE_MS;
}

/** Why a learner is at a percentage: what is missing, and which event made which figure. */
export function LearnerCoursePage() {
  const t = useTranslations();
  const format = useFormatter();
  const eventWord = useCode("events");
  const flagWord = useCode("flags");
  const { userId, courseId } = useParams({ strict: false }) as { userId: string; courseId: string };
  const { data, error, isPending, refetch } = useQuery(progressOf(courseId, userId));
  const published = useQuery(course(courseId));
  const courseTitle = published.data?.title ?? (published.error ? courseId : undefined);
  const enrolled = useQuery(enrolment(courseId, userId)).data;
  const at = { params: { path: { courseId, userId } } };
  const history = useInfiniteQuery(historyOf(courseId, userId));
  const percent = (value: number | null) => value !== null && format.number(value / 100, { style: "percent" });
  return (
    <Page
      title={courseTitle && `${userId}: ${courseTitle}`}
      actions={
        enrolled?.endedAt ? (
          <Action
            label={t("learner.enrol")}
            roles={AUTHORS}
            run={() => ask(api.PUT("/api/v1/courses/{courseId}/enrolments/{userId}", at))}
          />
        ) : enrolled ? (
          <Action
            label={t("learner.unenrol")}
            question={t("learner.unenrolText", { userId })}
            roles={AUTHORS}
            run={() => ask(api.DELETE("/api/v1/courses/{courseId}/enrolments/{userId}", at))}
          />
        ) : undefined
      }
    >
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && (
        <>
          <Facts
            facts={[
              [t("common.learner"), <LearnerLink id={userId} />],
              [t("common.course"), <CourseLink id={courseId} title={courseTitle} />],
              [t("common.status"), data.status ? <State state={data.status} /> : t("common.none")],
              [
                t("courses.progress"),
                <Percent value={data.progress} label={t("courses.progress")} />,
              ],
              [t("courses.chapters"), `${data.completedRequired} / ${data.requiredChapters}`],
              [t("courses.timeSpent"), span(data.timeSpent)],
              [t("courses.lastActivity"), <Time at={data.lastActivityAt} />],
              [t("completions.completedAt"), data.completedAt && <Time at={data.completedAt} />],
              [t("learner.ended"), enrolled?.endedAt && <Time at={enrolled.endedAt} />],
            ]}
          />
          {data.unmetCriteria.length > 0 && (
            <>
              <h2>{t("learner.why")}</h2>
              <ul>
                {data.unmetCriteria.map((each) => (
                  <li key={each.text}>{each.text}</li>
                ))}
              </ul>
            </>
          )}
        </>
      )}
      <h2>{t("learner.history")}</h2>
      <List
        query={history}
        caption={t("learner.history")}
        empty={t("courses.noLearners")}
        rowKey={(each) => each.eventId + each.receivedAt}
        columns={[
          {
            title: t("learner.sent"),
            heading: true,
            cell: (each) => (
              <>
                <Time at={each.occurredAt} />
                {isLate(each) && (
                  <div className="quiet small nowrap">
                    {t("learner.received")} <Time at={each.receivedAt} minutes />
                  </div>
                )}
              </>
            ),
          },
          { title: t("learner.event"), cell: (each) => eventWord(each.eventType) },
          { title: t("learner.chapter"), cell: (each) => each.chapterId },
          {
            title: t("courses.progress"),
            number: true,
            cell: (each) => percent(each.chapterProgress ?? null),
          },
          {
            title: t("learner.made"),
            number: true,
            cell: (each) => percent(each.courseProgress ?? null),
          },
          { title: t("courses.timeSpent"), number: true, cell: (each) => span(each.timeSpent) },
          { title: t("common.reason"), cell: (each) => each.reason ?? each.flags.map(flagWord).join(", ") },
        ]}
      />
    </Page>
  );
}
