import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { destinations } from "../api/queries";
import type { Destination } from "../api/schema";
import { Action } from "../parts/Action";
import { useCode } from "../parts/Code";
import { Page } from "../parts/Page";
import { Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Time } from "../parts/Time";

/** Partner systems: which answer, which are away, what waits for them. */
export function DestinationsPage() {
  const t = useTranslations("destinations");
  const common = useTranslations("common");
  const kindWord = useCode("partners");
  const { data, error, isPending, refetch } = useQuery(destinations);
  const last = ({ lastStatus, lastError }: Destination) =>
    [lastStatus, lastError].filter(Boolean).join(" ") || common("none");
  return (
    <Page title={t("title")}>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && (
        <Table
          caption={t("title")}
          rows={data.items}
          rowKey={(each) => each.name}
          columns={[
            { title: common("name"), heading: true, cell: (each) => each.name },
            { title: t("kind"), cell: (each) => kindWord(each.kind) },
            { title: common("state"), cell: (each) => <DestinationState destination={each} /> },
            { title: t("held"), number: true, cell: (each) => each.heldJobs },
            { title: t("last"), text: true, cell: last },
            { title: t("rate"), number: true, cell: (each) => each.rate },
            {
              title: t("dispatches"),
              cell: (each) =>
                each.kind === "webhook" && (
                  <Link to="/console/dispatches" search={{ destination: each.name } as never}>
                    {t("dispatches")}
                  </Link>
                ),
            },
            {
              title: common("actions"),
              cell: ({ name, state }) =>
                state !== "on" && (
                  <Action
                    label={t("switchOn")}
                    subject={name}
                    question={t("switchOnText", { name })}
                    run={() =>
                      ask(
                        api.POST("/api/v1/destinations/{name}/switch-on", {
                          params: { path: { name } },
                        }),
                      )
                    }
                  />
                ),
            },
          ]}
        />
      )}
    </Page>
  );
}

function DestinationState({ destination }: { destination: Destination }) {
  const t = useTranslations("destinations");
  if (!destination.isConfigured) return <State state="unset" text={t("unset")} />;
  return (
    <>
      <State state={destination.state} text={t(destination.state as "on")} />{" "}
      {destination.disabledReason}
      {destination.since && (
        <div className="quiet">
          {t("since")} <Time at={destination.since} />
        </div>
      )}
      {destination.nextProbeAt && (
        <div className="quiet">
          {t("probe")} <Time at={destination.nextProbeAt} />
        </div>
      )}
    </>
  );
}
