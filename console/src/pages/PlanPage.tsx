import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { type Plan, type PlanLesson, plan, planStatus } from "../api/people_queries";
import { useWhileWriting } from "../parts/writing";
import { partKey } from "./lessonParts";
import type { GenerationStatus } from "../api/schema";
import { Action } from "../parts/Action";
import { Export } from "../parts/Export";
import { Facts } from "../parts/Facts";
import { CourseLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { Percent } from "../parts/Percent";
import { Empty, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { span } from "../parts/Time";

const WRITERS = ["author"] as const;

/** A plan: how far it is, its lessons, and what a person still has to add. */
export function PlanPage() {
  const t = useTranslations("plans");
  const { planId } = useParams({ strict: false }) as { planId: string };
  const status = useQuery(planStatus(planId));
  const content = useQuery({ ...plan(planId), refetchInterval: useWhileWriting(planId) });
  const error = content.error ?? status.error;
  return (
    <Page title={content.data?.title ?? (error ? planId : undefined)} actions={<Export planId={planId} />}>
      {error && <ProblemBox error={error} onAgain={() => void content.refetch()} />}
      {content.data && status.data && (
        <>
          <Progress status={status.data} courseId={content.data.courseId} />
          <OpenPlaces plan={content.data} />
          {content.data.modules.map((each, index) => (
            <section key={each.id}>
              <h2>
                {index + 1}. {each.title}
              </h2>
              <Lessons planId={planId} title={each.title} lessons={each.lessons} />
            </section>
          ))}
        </>
      )}
      {content.data?.modules.length === 0 && <Empty title={t("noLessons")} />}
    </Page>
  );
}

interface ProgressProps {
  status: GenerationStatus;
  courseId: string | null;
}

function Progress({ status, courseId }: ProgressProps) {
  const t = useTranslations();
  const path = { params: { path: { workflowId: status.workflowId } } };
  const left = status.estimatedTimeRemainingSeconds;
  const failed = status.jobs.details.filter((each) => each.failedReason);
  const done = status.status === "complete";
  return (
    <>
      <Facts
        facts={[
          [t("common.state"), <State state={status.status} />],
          [
            t("plans.progress"),
            <>
              <Percent value={status.progress} label={t("plans.progress")} />
              {left ? ` ${t("plans.left", { time: span(left) })}` : ""}
            </>,
          ],
          [t("plans.modules"), `${status.modulesGenerated} / ${status.totalModules}`],
          [t("plans.lessons"), status.totalLessons],
          [t("plans.openPlaces"), status.openPlaces],
          [t("plans.lessonsWithGaps"), status.lessonsWithGaps],
          [t("common.course"), courseId && <CourseLink id={courseId} />],
        ]}
      />
      {failed.map((each) => (
        <p key={each.jobId} className="bad">
          {t("plans.moduleFailed", { number: each.moduleIndex + 1 })} {each.failedReason}
        </p>
      ))}
      <div className="buttons">
        {status.status === "in_progress" ? (
          <Action
            label={t("plans.cancel")}
            question={t("plans.cancelText")}
            roles={WRITERS}
            run={() => ask(api.POST("/api/v3/workflow/{workflowId}/step10/cancel", path))}
          />
        ) : (
          !done && (
            <Action
              label={t(status.modulesGenerated ? "plans.goOn" : "plans.generate")}
              primary
              roles={WRITERS}
              run={() =>
                ask(
                  status.status === "failed" || status.status === "cancelled"
                    ? api.POST("/api/v3/workflow/{workflowId}/step10/retry", path)
                    : api.POST("/api/v3/workflow/{workflowId}/step10", path),
                )
              }
            />
          )
        )}
        {done && !courseId && (
          <Action
            label={t("plans.makeCourse")}
            question={t("plans.makeCourseText")}
            roles={WRITERS}
            run={() => ask(api.POST("/api/v3/workflow/{workflowId}/course", path))}
          />
        )}
        {status.status !== "in_progress" &&
          status.modulesGenerated > 0 &&
          status.openPlaces + status.lessonsWithGaps > 0 && (
            <Action
              label={t("plans.fill")}
              question={t("plans.fillText")}
              roles={WRITERS}
              run={() => ask(api.POST("/api/v3/workflow/{workflowId}/step10/fill", path))}
            />
          )}
      </div>
    </>
  );
}

/** The check-list of what a person fills in; each entry leads to its field. */
function OpenPlaces({ plan }: { plan: Plan }) {
  const t = useTranslations("plans");
  const places = plan.modules
    .flatMap((each) => each.lessons)
    .flatMap((each) => each.openPlaces.map((place) => ({ ...place, lesson: each })));
  if (places.length === 0) return null;
  return (
    <details className="panel">
      <summary>{t("openPlacesList", { count: places.length })}</summary>
      <ul className="checklist">
        {places.map((place, index) => (
          <li key={`${place.lesson.id} ${place.field} ${index}`}>
            <span aria-hidden="true">☐</span>{" "}
            <Link
              to="/console/plans/$planId/lessons/$lessonId"
              params={{ planId: plan.workflowId, lessonId: place.lesson.id }}
              hash={place.field}
            >
              {place.lesson.number} {t(partKey(place.field))}: {place.asks}
            </Link>
          </li>
        ))}
      </ul>
    </details>
  );
}

interface LessonsProps {
  planId: string;
  title: string;
  lessons: readonly PlanLesson[];
}

function Lessons({ planId, title, lessons }: LessonsProps) {
  const t = useTranslations("plans");
  return (
    <Table
      caption={title}
      rows={lessons}
      rowKey={(each) => each.id}
      columns={[
        { title: t("number"), cell: (each) => each.number },
        {
          title: t("lesson"),
          heading: true,
          cell: (each) => (
            <Link
              to="/console/plans/$planId/lessons/$lessonId"
              params={{ planId, lessonId: each.id }}
            >
              {each.title}
            </Link>
          ),
        },
        { title: t("minutes"), number: true, cell: (each) => each.durationMinutes },
        {
          title: t("written"),
          cell: (each) =>
            each.written ? (
              <State state="ok" text={t(each.edited ? "edited" : "written")} />
            ) : (
              <State state="waiting" text={t("notWritten")} />
            ),
        },
        { title: t("openPlaces"), number: true, cell: (each) => each.openPlaces.length },
        {
          title: t("gaps"),
          text: true,
          cell: (each) => each.gaps.map(({ message }) => message).join("; "),
        },
      ]}
    />
  );
}
