import { useInfiniteQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { audit } from "../api/queries";
import { Filters, TextFilter, useFilters } from "../parts/Filters";
import { Page } from "../parts/Page";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

/** Who changed what, and when. */
export function AuditPage() {
  const t = useTranslations("audit");
  const common = useTranslations("common");
  const [{ subject }] = useFilters();
  const query = useInfiniteQuery(audit(subject));
  return (
    <Page title={t("title")}>
      <Filters>
        <TextFilter label={t("subject")} name="subject" />
      </Filters>
      <List
        query={query}
        caption={t("title")}
        empty={t("empty")}
        rowKey={(each) => each.id}
        columns={[
          { title: common("time"), heading: true, cell: (each) => <Time at={each.at} /> },
          { title: t("who"), cell: (each) => each.actor },
          { title: t("what"), cell: (each) => each.action },
          { title: t("subject"), cell: (each) => <span className="id">{each.subject}</span> },
          {
            title: t("details"),
            text: true,
            cell: (each) =>
              Object.entries(each.details).map(([name, value]) => (
                <div key={name}>
                  <span className="quiet">{name}:</span>{" "}
                  {typeof value === "string" ? value : JSON.stringify(value)}
                </div>
              )),
          },
        ]}
      />
    </Page>
  );
}
