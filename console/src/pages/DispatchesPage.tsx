import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { type DispatchFilter, destinations, dispatches } from "../api/queries";
import { Action } from "../parts/Action";
import { Choice, Filters, useFilters } from "../parts/Filters";
import { CompletionLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

const STATUSES = ["waiting", "delivered", "failed", "skipped"] as const;

/** What went to partner systems, and what they answered. */
export function DispatchesPage() {
  const t = useTranslations();
  const [filters] = useFilters();
  const query = useInfiniteQuery(dispatches(filters as DispatchFilter));
  const { data: partners } = useQuery(destinations);
  const webhooks = partners?.items.filter((each) => each.kind === "webhook") ?? [];
  return (
    <Page title={t("dispatches.title")}>
      <Filters>
        <Choice
          label={t("dispatches.destination")}
          name="destination"
          options={webhooks.map((each) => each.name)}
        />
        <Choice
          label={t("common.status")}
          name="status"
          options={STATUSES}
          word={(each) => t(`states.${each as "waiting"}`)}
        />
      </Filters>
      <List
        query={query}
        caption={t("dispatches.title")}
        empty={t("dispatches.empty")}
        rowKey={(each) => each.id}
        columns={[
          {
            title: t("common.id"),
            heading: true,
            cell: (each) => <span className="id">{each.id}</span>,
          },
          { title: t("dispatches.destination"), cell: (each) => each.destination },
          { title: t("common.status"), cell: (each) => <State state={each.status} /> },
          { title: t("common.learner"), cell: (each) => <LearnerLink id={each.userId} /> },
          {
            title: t("jobs.completion"),
            cell: (each) => <CompletionLink id={each.completionId} />,
          },
          { title: t("common.attempts"), number: true, cell: (each) => each.attempts },
          {
            title: t("dispatches.answer"),
            text: true,
            cell: (each) => [each.lastStatus, each.lastError].filter(Boolean).join(" "),
          },
          { title: t("dispatches.created"), cell: (each) => <Time at={each.createdAt} /> },
          { title: t("dispatches.delivered"), cell: (each) => <Time at={each.deliveredAt} /> },
          {
            title: t("common.actions"),
            cell: (each) => (
              <Action
                label={t("dispatches.replay")}
                subject={each.id}
                question={t("dispatches.replayText")}
                run={() =>
                  ask(
                    api.POST("/api/v1/dispatches/{dispatchId}/replay", {
                      params: { path: { dispatchId: each.id } },
                    }),
                  )
                }
              />
            ),
          },
        ]}
      />
    </Page>
  );
}
