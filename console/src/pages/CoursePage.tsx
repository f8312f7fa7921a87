import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { course, learners } from "../api/queries";
import { Action } from "../parts/Action";
import { Page } from "../parts/Page";
import { Percent } from "../parts/Percent";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { span, Time } from "../parts/Time";

const AUTHORS = ["author", "service"] as const;

/** The learners of a course; each leads to what happened. */
export function CoursePage() {
  const t = useTranslations("courses");
  const common = useTranslations("common");
  const { courseId } = useParams({ strict: false }) as { courseId: string };
  const query = useInfiniteQuery(learners(courseId));
  const { data, error } = useQuery(course(courseId));
  const at = { params: { path: { courseId } } };
  return (
    <Page
      title={data?.title ?? (error ? courseId : undefined)}
      actions={
        <>
          <Link to="/console/completions" search={{ courseId } as never}>
            {useTranslations("completions")("title")}
          </Link>
          {data?.archivedAt ? (
            <Action
              label={t("unarchive")}
              roles={AUTHORS}
              run={() => ask(api.POST("/api/v1/courses/{courseId}/unarchive", at))}
            />
          ) : (
            <Action
              label={t("toArchive")}
              question={t("archiveText")}
              roles={AUTHORS}
              run={() => ask(api.POST("/api/v1/courses/{courseId}/archive", at))}
            />
          )}
        </>
      }
    >
      {data?.archivedAt && (
        <p>
          {t("archivedSince")} <Time at={data.archivedAt} />
        </p>
      )}
      <h2>{t("learners")}</h2>
      <List
        query={query}
        caption={t("learners")}
        empty={t("noLearners")}
        rowKey={(each) => each.userId}
        columns={[
          {
            title: common("learner"),
            heading: true,
            cell: ({ userId }) => (
              <Link
                to="/console/learners/$userId/courses/$courseId"
                params={{ userId, courseId }}
              >
                {userId}
              </Link>
            ),
          },
          {
            title: common("status"),
            cell: (each) => each.status && <State state={each.status} />,
          },
          {
            title: t("progress"),
            cell: (each) => <Percent value={each.progress} label={each.userId} />,
          },
          { title: t("chapters"), number: true, cell: (each) => each.completedChapters },
          { title: t("timeSpent"), number: true, cell: (each) => span(each.timeSpent) },
          { title: t("lastActivity"), cell: (each) => <Time at={each.lastActivityAt} /> },
        ]}
      />
    </Page>
  );
}
