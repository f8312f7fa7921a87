import { useQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { settings } from "../api/queries";
import type { Setting } from "../api/schema";
import { Filters, TextFilter, useFilters } from "../parts/Filters";
import { Page } from "../parts/Page";
import { Loading, ProblemBox } from "../parts/Problem";
import { Table } from "../parts/Table";

/** Every setting with its value; secrets are hidden by the API. */
export function SettingsPage() {
  const t = useTranslations("settings");
  const common = useTranslations("common");
  const [{ q = "" }] = useFilters();
  const { data, error, isPending, refetch } = useQuery(settings);
  const words = q.toLowerCase();
  const found = data?.filter(({ name, description }) =>
    `${name} ${description}`.toLowerCase().includes(words),
  );
  const value = ({ isSet, secret, value }: Setting) => {
    if (!isSet) return common("none");
    return secret ? t("hidden") : <code>{value}</code>;
  };
  return (
    <Page title={t("title")}>
      <p className="quiet">{t("text")}</p>
      <Filters>
        <TextFilter label={t("search")} name="q" />
      </Filters>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {found && (
        <Table
          caption={t("title")}
          rows={found}
          rowKey={(each) => each.name}
          columns={[
            { title: common("name"), heading: true, cell: (each) => <code>{each.name}</code> },
            { title: t("value"), cell: value },
            { title: t("default"), cell: (each) => <code>{each.default}</code> },
            { title: common("description"), text: true, cell: (each) => each.description },
          ]}
        />
      )}
    </Page>
  );
}
