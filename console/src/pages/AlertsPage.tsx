import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useFormatter, useTranslations } from "use-intl";
import { alertRules, alerts } from "../api/queries";
import type { Alert, AlertRule } from "../api/schema";
import { api, ask } from "../api/client";
import { Action } from "../parts/Action";
import { Choice, Filters, useFilters } from "../parts/Filters";
import { Page } from "../parts/Page";
import { Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { List, Table } from "../parts/Table";
import { span, Time } from "../parts/Time";

const SNOOZE_SECONDS = 4 * 3_600;

/** The alerts, what operators did about them, and the rules that raise them. */
export function AlertsPage() {
  const t = useTranslations("alerts");
  const common = useTranslations("common");
  const [search] = useFilters();
  const query = useInfiniteQuery(alerts((search.state ?? "open") as "open"));
  const rules = useQuery(alertRules);
  return (
    <Page title={t("title")}>
      <Filters>
        <Choice
          label={common("state")}
          name="state"
          options={["cleared", "all"]}
          word={(option) => t(option as "all")}
          none={t("open")}
        />
      </Filters>
      <List
        query={query}
        caption={t("title")}
        empty={t("empty")}
        emptyText={t("emptyText")}
        rowKey={(each) => each.id}
        columns={[
          {
            title: t("alert"),
            heading: true,
            cell: (each) => (
              <>
                {t(`kinds.${each.rule}` as "kinds.no_worker")}
                {each.subject && `: ${each.subject}`}
              </>
            ),
          },
          {
            title: t("severity"),
            cell: ({ severity }) => <State state={severity} text={t(severity as "warning")} />,
          },
          { title: common("state"), cell: (each) => <Handling alert={each} /> },
          { title: t("detail"), text: true, cell: (each) => each.detail ?? common("none") },
          { title: t("since"), cell: (each) => <Time at={each.since} /> },
          { title: t("raised"), cell: (each) => <Time at={each.raisedAt} /> },
          {
            title: common("actions"),
            cell: (each) => each.state === "open" && <Actions alert={each} />,
          },
        ]}
      />
      <h2>{t("rules")}</h2>
      <p className="quiet">{t("rulesText")}</p>
      {rules.isPending && <Loading />}
      {rules.error && <ProblemBox error={rules.error} onAgain={() => void rules.refetch()} />}
      {rules.data && <Rules rules={rules.data.items} />}
    </Page>
  );
}

function Handling({ alert }: { alert: Alert }) {
  const t = useTranslations("alerts");
  const common = useTranslations("common");
  if (alert.state === "cleared")
    return (
      <>
        <State state="ok" text={t("cleared")} /> <Time at={alert.clearedAt} />
      </>
    );
  return (
    <>
      <State state="failed" text={t("open")} />
      {alert.raisedCount > 1 && ` (${t("times", { count: alert.raisedCount })})`}
      {alert.acknowledgedBy && (
        <div>
          {t("acknowledgedBy", { name: alert.acknowledgedBy })} {alert.acknowledgedWhy}
        </div>
      )}
      {alert.snoozedUntil && (
        <div>
          {t("snoozedUntil")} <Time at={alert.snoozedUntil ?? common("none")} />
        </div>
      )}
    </>
  );
}

function Actions({ alert }: { alert: Alert }) {
  const t = useTranslations("alerts");
  const params = { path: { alertId: alert.id } };
  const subject = `${t(`kinds.${alert.rule}` as "kinds.no_worker")} ${alert.subject}`.trim();
  return (
    <>
      {!alert.acknowledgedAt && (
        <Action
          label={t("acknowledge")}
          subject={subject}
          run={() => ask(api.POST("/api/v1/alerts/{alertId}/acknowledge", { params }))}
        />
      )}{" "}
      <Action
        label={t("snooze", { span: span(SNOOZE_SECONDS) })}
        subject={subject}
        question={t("snoozeText", { span: span(SNOOZE_SECONDS) })}
        run={() =>
          ask(
            api.POST("/api/v1/alerts/{alertId}/snooze", {
              params,
              body: { seconds: SNOOZE_SECONDS },
            }),
          )
        }
      />
    </>
  );
}

function Rules({ rules }: { rules: readonly AlertRule[] }) {
  const t = useTranslations("alerts");
  const common = useTranslations("common");
  const format = useFormatter();
  const threshold = ({ threshold: value, unit }: AlertRule) => {
    if (unit === "seconds") return span(value);
    if (unit === "share") return format.number(value, { style: "percent" });
    if (unit === "bytes") return `${format.number(value / 2 ** 30, { maximumFractionDigits: 1 })} GiB`;
    return `${format.number(value)} ${t(`units.${unit}` as "units.jobs")}`;
  };
  return (
    <Table
      caption={t("rules")}
      rows={rules}
      rowKey={(rule) => rule.kind}
      columns={[
        {
          title: t("alert"),
          heading: true,
          cell: (rule) => t(`kinds.${rule.kind}` as "kinds.no_worker"),
        },
        {
          title: t("condition"),
          cell: (rule) => `${t(rule.condition as "above")} ${threshold(rule)}`,
        },
        { title: t("for"), cell: (rule) => span(rule.forSeconds) },
        { title: t("clear"), cell: (rule) => span(rule.clearSeconds) },
        { title: t("severity"), cell: (rule) => t(rule.severity as "warning") },
        {
          title: common("state"),
          cell: (rule) => (
            <State
              state={rule.enabled ? "on" : "disabled"}
              text={t(rule.enabled ? (rule.isDefault ? "default" : "changed") : "off")}
            />
          ),
        },
      ]}
    />
  );
}
