import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { completions, coursesOf, person } from "../api/queries";
import { Achievements } from "../parts/Achievements";
import { useCode } from "../parts/Code";
import { Facts } from "../parts/Facts";
import { CompletionLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { Percent } from "../parts/Percent";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { span, Time } from "../parts/Time";

/** One learner: all courses, and what each completion led to. */
export function LearnerPage() {
  const t = useTranslations();
  const { userId } = useParams({ strict: false }) as { userId: string };
  const stepWord = useCode("steps");
  const known = useQuery(person(userId)).data;
  const progress = useInfiniteQuery(coursesOf(userId));
  const completed = useInfiniteQuery(completions({ userId }));
  return (
    <Page title={t("learner.title", { userId })}>
      {known && (
        <Facts
          facts={[
            [t("common.name"), `${known.givenName} ${known.familyName}`],
            [t("people.email"), known.email],
            [t("people.manager"), known.managerId && <LearnerLink id={known.managerId} />],
            [t("people.group"), known.groupIds.join(", ") || null],
            [t("people.suspended"), known.suspendedAt && <Time at={known.suspendedAt} />],
          ]}
        />
      )}
      <h2>{t("learner.courses")}</h2>
      <List
        query={progress}
        caption={t("learner.courses")}
        empty={t("learner.empty")}
        rowKey={(each) => each.courseId}
        columns={[
          {
            title: t("common.course"),
            heading: true,
            cell: ({ courseId, title }) => (
              <Link
                to="/console/learners/$userId/courses/$courseId"
                params={{ userId, courseId }}
              >
                {title}
              </Link>
            ),
          },
          {
            title: t("common.status"),
            cell: (each) => each.status && <State state={each.status} />,
          },
          {
            title: t("courses.progress"),
            cell: (each) => <Percent value={each.progress} label={each.title} />,
          },
          {
            title: t("courses.chapters"),
            number: true,
            cell: (each) => `${each.completedRequired} / ${each.requiredChapters}`,
          },
          { title: t("courses.timeSpent"), number: true, cell: (each) => span(each.timeSpent) },
          { title: t("courses.lastActivity"), cell: (each) => <Time at={each.lastActivityAt} /> },
        ]}
      />
      <h2>{t("learner.achievements")}</h2>
      <Achievements userId={userId} />
      <h2>{t("learner.completions")}</h2>
      <List
        query={completed}
        caption={t("learner.completions")}
        empty={t("completions.empty")}
        rowKey={(each) => each.id}
        columns={[
          {
            title: t("common.id"),
            heading: true,
            cell: (each) => <CompletionLink id={each.id} />,
          },
          { title: t("common.course"), cell: (each) => each.courseTitle },
          { title: t("completions.completedAt"), cell: (each) => <Time at={each.completedAt} /> },
          {
            title: t("completions.steps"),
            cell: (each) => (
              <ul className="steps">
                {each.steps.map((step) => (
                  <li key={step.name}>
                    {stepWord(step.name)}: <State state={step.status} />
                  </li>
                ))}
              </ul>
            ),
          },
        ]}
      />
    </Page>
  );
}
