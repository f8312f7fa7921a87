import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useFormatter, useTranslations } from "use-intl";
import { queues, readiness, summary } from "../api/queries";
import type { MetricsSummary, Queue, Readiness } from "../api/schema";
import { AlertBanner } from "../parts/AlertBanner";
import { useCode } from "../parts/Code";
import { History } from "../parts/History";
import { Page } from "../parts/Page";
import { Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { span } from "../parts/Time";

/** Jobs that have waited for longer make the overview say that workers are busy. */
const BUSY_SECONDS = 30;

/** What is going on, and what is wrong. */
export function OverviewPage() {
  const t = useTranslations("overview");
  const health = useQuery(readiness);
  const figures = useQuery(summary);
  const waiting = useQuery(queues);
  const error = figures.error ?? health.error;
  return (
    <Page title={t("title")}>
      {error && <ProblemBox error={error} />}
      <AlertBanner />
      {figures.data && waiting.data && <Workload figures={figures.data} queues={waiting.data} />}
      {health.data && <Health health={health.data} />}
      {figures.isPending && <Loading />}
      {figures.data && <Figures figures={figures.data} />}
      {figures.data && <History />}
      {figures.data && <OwedSteps steps={figures.data.steps} />}
    </Page>
  );
}

function Workload({ figures, queues }: { figures: MetricsSummary; queues: Queue[] }) {
  const t = useTranslations("overview");
  const count = queues.reduce((sum, queue) => sum + queue.counts.waiting, 0);
  const oldest = Math.max(0, ...queues.map((queue) => queue.oldestWaitingSeconds ?? 0));
  if (figures.activeWorkers === 0)
    return (
      <p className="banner bad" role="alert">
        {t("noWorker")}
      </p>
    );
  if (count === 0 || oldest < BUSY_SECONDS) return null;
  return <p className="banner warn">{t("busy", { waiting: count, age: span(oldest) })}</p>;
}

function Health({ health }: { health: Readiness }) {
  const t = useTranslations("overview");
  const wrong = Object.entries(health.checks).filter(([, check]) => check.status !== "ok");
  if (wrong.length === 0) return <p className="banner good">✓ {t("well")}</p>;
  return (
    <section aria-labelledby="wrong">
      <h2 id="wrong">{t("wrong")}</h2>
      <ul className="checks">
        {wrong.map(([name, check]) => (
          <li key={name}>
            <State state={check.status} /> <strong>{name}</strong> {check.detail}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Figures({ figures }: { figures: MetricsSummary }) {
  const t = useTranslations("overview");
  const format = useFormatter();
  const count = (state: string) =>
    Object.values(figures.jobs).reduce((sum, states) => sum + (states[state] ?? 0), 0);
  const shown = [
    [t("events"), format.number(figures.eventsPerSecond, { maximumFractionDigits: 1 })],
    [t("errors"), format.number(figures.errorRate, { style: "percent" })],
    [t("workers"), <Link to="/console/workers">{figures.activeWorkers}</Link>],
    [
      t("waiting"),
      <Link to="/console/jobs" search={{ state: "waiting" } as never}>
        {format.number(count("waiting"))}
      </Link>,
    ],
    [
      t("failed"),
      <Link to="/console/jobs" search={{ state: "failed" } as never}>
        {format.number(count("failed"))}
      </Link>,
    ],
  ] as const;
  return (
    <section aria-labelledby="now">
      <h2 id="now">{t("now")}</h2>
      <dl className="figures">
        {shown.map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function OwedSteps({ steps }: { steps: MetricsSummary["steps"] }) {
  const t = useTranslations("overview");
  const states = useTranslations("states");
  const stepWord = useCode("steps");
  const format = useFormatter();
  const rows = Object.entries(steps).map(([step, counts]) => ({ step, counts }));
  if (rows.length === 0) return null;
  const listed = (step: string, status: string, number: number) =>
    number === 0 ? (
      <span className="quiet">0</span>
    ) : (
      <Link to="/console/completions" search={{ step, status } as never}>
        {format.number(number)}
      </Link>
    );
  return (
    <section aria-labelledby="owed">
      <h2 id="owed">{t("owed")}</h2>
      <p className="quiet">{t("owedText")}</p>
      <Table
        caption={t("owedTable")}
        rows={rows}
        rowKey={(row) => row.step}
        columns={[
          { title: t("step"), heading: true, cell: (row) => stepWord(row.step) },
          {
            title: t("outstanding"),
            number: true,
            cell: (row) =>
              listed(
                row.step,
                "outstanding",
                ["waiting", "active", "failed"].reduce(
                  (sum, status) => sum + (row.counts[status] ?? 0),
                  0,
                ),
              ),
          },
          {
            title: states("failed"),
            number: true,
            cell: (row) => listed(row.step, "failed", row.counts.failed ?? 0),
          },
          {
            title: t("done"),
            number: true,
            cell: (row) => listed(row.step, "completed", row.counts.completed ?? 0),
          },
          {
            title: t("skipped"),
            number: true,
            cell: (row) => listed(row.step, "skipped", row.counts.skipped ?? 0),
          },
        ]}
      />
    </section>
  );
}
