import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, Navigate } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { programmes } from "../api/people_queries";
import { Day } from "../parts/Day";
import { Page } from "../parts/Page";
import { State } from "../parts/State";
import { itemsOf, List } from "../parts/Table";

/** The programmes that a manager manages; of a single one the page itself. */
export function ProgrammesPage() {
  const t = useTranslations("programmes");
  const common = useTranslations("common");
  const query = useInfiniteQuery(programmes);
  const found = itemsOf(query);
  if (found.length === 1 && !query.hasNextPage && found[0])
    return (
      <Navigate
        to="/console/programmes/$programmeId"
        params={{ programmeId: found[0].id }}
        replace
      />
    );
  return (
    <Page title={t("title")}>
      <List
        query={query}
        caption={t("title")}
        empty={t("empty")}
        emptyText={t("emptyText")}
        rowKey={(each) => each.id}
        columns={[
          {
            title: common("name"),
            heading: true,
            cell: (each) => (
              <Link to="/console/programmes/$programmeId" params={{ programmeId: each.id }}>
                {each.title}
              </Link>
            ),
          },
          {
            title: common("state"),
            cell: (each) =>
              each.closedOn ? (
                <>
                  <State state="paused" text={t("closed")} /> <Day on={each.closedOn} />
                </>
              ) : (
                <State state="on" text={t("open")} />
              ),
          },
          { title: t("timeZone"), cell: (each) => each.timeZone },
          { title: t("managers"), cell: (each) => each.managers.join(", ") || common("none") },
        ]}
      />
    </Page>
  );
}
