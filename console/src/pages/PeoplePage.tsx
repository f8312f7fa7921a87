import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { type PeopleFilter, people } from "../api/queries";
import type { Person } from "../api/schema";
import { Action } from "../parts/Action";
import { Filters, TextFilter, useFilters } from "../parts/Filters";
import { LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { useHasRole } from "../parts/session";
import { type Column, List } from "../parts/Table";
import { Time } from "../parts/Time";

const WRITERS = ["service"] as const;

/** The directory: whom a word, a manager or a group names; each leads to the learner. */
export function PeoplePage() {
  const t = useTranslations();
  const [search] = useFilters();
  const mayChange = useHasRole(...WRITERS);
  const query = useInfiniteQuery(people(search as PeopleFilter));
  const actions: Column<Person> = {
    title: t("common.actions"),
    cell: ({ userId, suspendedAt }) => {
      const at = { params: { path: { userId } } };
      return suspendedAt ? (
        <Action
          label={t("people.resume")}
          subject={userId}
          roles={WRITERS}
          run={() => ask(api.POST("/api/v1/people/{userId}/resume", at))}
        />
      ) : (
        <Action
          label={t("people.suspend")}
          subject={userId}
          question={t("people.suspendText", { userId })}
          roles={WRITERS}
          run={() => ask(api.POST("/api/v1/people/{userId}/suspend", at))}
        />
      );
    },
  };
  return (
    <Page title={t("people.title")} actions={<Link to="/console/imports">{t("imports.title")}</Link>}>
      <Filters>
        <TextFilter label={t("people.search")} name="q" />
        <TextFilter label={t("people.manager")} name="managerId" />
        <TextFilter label={t("people.group")} name="groupId" />
      </Filters>
      <List
        query={query}
        caption={t("people.title")}
        empty={t("people.empty")}
        emptyText={t("people.emptyText")}
        rowKey={(each) => each.userId}
        columns={[
          {
            title: t("common.id"),
            heading: true,
            cell: (each) => <LearnerLink id={each.userId} />,
          },
          { title: t("common.name"), cell: (each) => `${each.givenName} ${each.familyName}` },
          { title: t("people.email"), cell: (each) => each.email },
          { title: t("people.manager"), cell: (each) => each.managerId },
          { title: t("people.group"), cell: (each) => each.groupIds.join(", ") },
          { title: t("people.suspended"), cell: (each) => each.suspendedAt && <Time at={each.suspendedAt} minutes /> },
          ...(mayChange ? [actions] : []),
        ]}
      />
    </Page>
  );
}
