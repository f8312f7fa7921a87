import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { plans } from "../api/people_queries";
import { CourseLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

/** All lesson plans, the newest first. */
export function PlansPage() {
  const t = useTranslations();
  const query = useInfiniteQuery(plans);
  return (
    <Page title={t("plans.title")}>
      <List
        query={query}
        caption={t("plans.title")}
        empty={t("plans.empty")}
        emptyText={t("plans.emptyText")}
        rowKey={(each) => each.workflowId}
        columns={[
          {
            title: t("common.name"),
            heading: true,
            cell: (each) => (
              <Link to="/console/plans/$planId" params={{ planId: each.workflowId }}>
                {each.title}
              </Link>
            ),
          },
          { title: t("common.state"), cell: (each) => <State state={each.status} /> },
          {
            title: t("plans.modules"),
            number: true,
            cell: (each) => `${each.modulesGenerated} / ${each.totalModules}`,
          },
          { title: t("common.course"), cell: (each) => <CourseLink id={each.courseId} /> },
          { title: t("plans.created"), cell: (each) => <Time at={each.createdAt} minutes /> },
        ]}
      />
    </Page>
  );
}
