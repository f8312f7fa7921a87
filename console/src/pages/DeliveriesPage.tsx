import { useInfiniteQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { type DeliveryFilter, deliveries } from "../api/queries";
import type { DeliveryStatus } from "../api/schema";
import { useCode } from "../parts/Code";
import { Choice, Filters, TextFilter, useFilters } from "../parts/Filters";
import { JobLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

const STATUSES: readonly DeliveryStatus[] = [
  "pending",
  "sending",
  "accepted",
  "delivered",
  "bounced",
  "complained",
  "unknown",
  "failed",
  "cancelled",
  "expired",
  "skipped",
  "suppressed",
];

/** Messages to people: by which way, how each ended and why. */
export function DeliveriesPage() {
  const t = useTranslations();
  const typeWord = useCode("messages");
  const channelWord = useCode("channels");
  const [filters] = useFilters();
  const query = useInfiniteQuery(deliveries(filters as DeliveryFilter));
  return (
    <Page title={t("deliveries.title")}>
      <Filters>
        <Choice
          label={t("common.status")}
          name="status"
          options={STATUSES}
          word={(each) => t(`states.${each as DeliveryStatus}`)}
        />
        <TextFilter label={t("deliveries.person")} name="userId" />
      </Filters>
      <List
        query={query}
        caption={t("deliveries.title")}
        empty={t("deliveries.empty")}
        rowKey={(each) => each.id}
        columns={[
          { title: t("deliveries.type"), heading: true, cell: (each) => typeWord(each.type) },
          { title: t("deliveries.person"), cell: (each) => <LearnerLink id={each.userId} /> },
          { title: t("deliveries.channel"), cell: (each) => channelWord(each.channel) },
          { title: t("common.status"), cell: (each) => <State state={each.status} /> },
          {
            title: t("common.reason"),
            text: true,
            cell: (each) => each.reason ?? each.reasonCode,
          },
          { title: t("common.time"), cell: (each) => <Time at={each.updatedAt} /> },
          { title: t("deliveries.address"), cell: (each) => each.address },
          { title: t("common.attempts"), number: true, cell: (each) => each.attempts },
          { title: t("completions.job"), cell: (each) => <JobLink id={each.jobId} /> },
          { title: t("common.id"), cell: (each) => <span className="id">{each.id}</span> },
        ]}
      />
    </Page>
  );
}
