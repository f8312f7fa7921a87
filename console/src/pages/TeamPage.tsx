import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { ApiError } from "../api/client";
import { team } from "../api/people_queries";
import { Choice, Filters, TextFilter, useFilters } from "../parts/Filters";
import { Page } from "../parts/Page";
import { Percent } from "../parts/Percent";
import { Empty } from "../parts/Problem";
import { State } from "../parts/State";
import { itemsOf, List } from "../parts/Table";
import { Time } from "../parts/Time";

/** A manager's people: their courses, and who is behind. */
export function TeamPage() {
  const t = useTranslations();
  const [{ q = "", show, relation }] = useFilters();
  const query = useInfiniteQuery(team);
  const absent = query.error instanceof ApiError && query.error.status === 404;
  const words = q.toLowerCase();
  const found = itemsOf(query).filter(
    (each) =>
      `${each.name} ${each.userId}`.toLowerCase().includes(words) &&
      (show !== "behind" || each.behind) &&
      (!relation || each.relation.includes(relation as "report")),
  );
  const shown = query.data && {
    ...query,
    data: { ...query.data, pages: [{ items: found }] },
  };
  return (
    <Page title={t("team.title")}>
      {absent ? (
        <Empty title={t("common.notFound")} />
      ) : (
        <>
          <Filters>
            <TextFilter label={t("common.name")} name="q" />
            <Choice
              label={t("team.progress")}
              name="show"
              options={["behind"]}
              word={() => t("team.behind")}
            />
            <Choice
              label={t("team.relation")}
              name="relation"
              options={["report", "facilitator"]}
              word={(each) => t(`team.${each}` as "team.report")}
            />
          </Filters>
          <List
            query={(shown ?? query) as typeof query}
            caption={t("team.title")}
            empty={t("team.empty")}
            emptyText={t("team.emptyText")}
            rowKey={(each) => each.userId}
            columns={[
              {
                title: t("common.name"),
                heading: true,
                cell: (each) => (
                  <>
                    <Link to="/console/learners/$userId" params={{ userId: each.userId }}>
                      {each.name}
                    </Link>
                    {each.email && <div className="quiet">{each.email}</div>}
                  </>
                ),
              },
              {
                title: t("team.relation"),
                cell: (each) => each.relation.map((one) => t(`team.${one}`)).join(", "),
              },
              {
                title: t("team.progress"),
                text: true,
                cell: (each) =>
                  each.behind ? (
                    <>
                      <State state="missed" text={t("team.behind")} /> {each.reason}
                    </>
                  ) : (
                    <State state="ok" text={t("team.onTrack")} />
                  ),
              },
              {
                title: t("nav.courses"),
                cell: (each) => (
                  <ul className="steps">
                    {each.courses.map((one) => (
                      <li key={one.courseId}>
                        <Link
                          to="/console/learners/$userId/courses/$courseId"
                          params={{ userId: each.userId, courseId: one.courseId }}
                        >
                          {one.title}
                        </Link>{" "}
                        <Percent value={one.progress} label={one.title} />{" "}
                        <Time at={one.completedAt ?? one.lastActivityAt} minutes />
                      </li>
                    ))}
                  </ul>
                ),
              },
            ]}
          />
        </>
      )}
    </Page>
  );
}
