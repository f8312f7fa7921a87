import { useQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { workers } from "../api/queries";
import { Page } from "../parts/Page";
import { Empty, Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Time } from "../parts/Time";

/** The processes that run jobs. */
export function WorkersPage() {
  const t = useTranslations("workers");
  const common = useTranslations("common");
  const { data, error, isPending, refetch } = useQuery(workers);
  return (
    <Page title={t("title")}>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data?.length === 0 && <Empty title={t("empty")} />}
      {data && data.length > 0 && (
        <Table
          caption={t("title")}
          rows={data}
          rowKey={(each) => each.id}
          columns={[
            {
              title: common("id"),
              heading: true,
              cell: (each) => <span className="id">{each.id}</span>,
            },
            {
              title: common("state"),
              cell: (each) => <State state={each.state} text={t(each.state as "running")} />,
            },
            { title: t("host"), cell: (each) => each.host },
            { title: t("process"), number: true, cell: (each) => String(each.pid) },
            { title: t("active"), number: true, cell: (each) => each.active },
            { title: t("heartbeat"), cell: (each) => <Time at={each.heartbeatAt} /> },
            { title: t("started"), cell: (each) => <Time at={each.startedAt} /> },
            { title: t("queues"), cell: (each) => Object.keys(each.queues).join(", ") },
          ]}
        />
      )}
    </Page>
  );
}
