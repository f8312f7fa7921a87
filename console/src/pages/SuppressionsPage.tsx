import { useInfiniteQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { suppressions } from "../api/queries";
import { Action } from "../parts/Action";
import { Page } from "../parts/Page";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

/** Addresses that get no messages, and a way to let them have some again. */
export function SuppressionsPage() {
  const t = useTranslations("suppressions");
  const common = useTranslations("common");
  const channel = useTranslations("deliveries")("channel");
  const query = useInfiniteQuery(suppressions);
  return (
    <Page title={t("title")}>
      <p className="quiet">{t("text")}</p>
      <List
        query={query}
        caption={t("title")}
        empty={t("empty")}
        rowKey={(each) => each.id}
        columns={[
          { title: common("id"), heading: true, cell: (each) => each.address },
          { title: channel, cell: (each) => each.channel },
          { title: common("reason"), cell: (each) => `${each.reason}: ${each.detail}` },
          { title: t("since"), cell: (each) => <Time at={each.createdAt} /> },
          { title: t("ends"), cell: (each) => <Time at={each.expiresAt} /> },
          {
            title: common("actions"),
            cell: ({ id, address }) => (
              <Action
                label={t("lift")}
                subject={address}
                question={t("liftText", { address })}
                run={() =>
                  ask(api.DELETE("/api/v1/suppressions/{id}", { params: { path: { id } } }))
                }
              />
            ),
          },
        ]}
      />
    </Page>
  );
}
