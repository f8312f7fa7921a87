import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { activityLog, ownLogs } from "../api/people_queries";
import type { ActivityLog, LogObligation } from "../api/schema";
import { Action } from "../parts/Action";
import { useWeekWord } from "../parts/Day";
import { useFilters } from "../parts/Filters";
import { useOpenedHeading } from "../parts/opened";
import { Page } from "../parts/Page";
import { Empty, Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { itemsOf, List, Table } from "../parts/Table";
import { Time } from "../parts/Time";
import { LogForm } from "./LogForm";

const isSame = (one: LogObligation, offering?: string, week?: string) =>
  one.offeringId === offering && one.week === week;

/** What is due of a facilitator, the form to hand it in, and what was handed in. */
export function LogsPage() {
  const t = useTranslations("logs");
  const [search, change] = useFilters();
  const missing = useInfiniteQuery(ownLogs(true));
  const all = useInfiniteQuery(ownLogs(false));
  const [said, setSaid] = useState("");
  const due = itemsOf(missing);
  // The link of a mail names the programme and the week: the form of its first log is open.
  const chosen =
    [...due, ...itemsOf(all)].find((one) => isSame(one, search.offering, search.week)) ??
    (search.offering
      ? undefined
      : due.find(({ programmeId, week }) => programmeId === search.programme && week === search.week));
  const done = (log: ActivityLog, title: string) => {
    setSaid(t(log.status === "draft" ? "savedDraft" : "saved", { title }));
    change({ offering: log.status === "draft" ? log.offeringId : undefined });
    document.querySelector("h1")?.focus();
  };
  return (
    <Page title={t("title")}>
      <p role="status" className="good">
        {said}
      </p>
      {chosen && (
        <LogEditor
          key={`${chosen.offeringId} ${chosen.week}`}
          one={chosen}
          onDone={(log) => done(log, chosen.offeringTitle)}
        />
      )}
      <h2>{t("due")}</h2>
      {missing.isPending && <Loading />}
      {missing.isError && !missing.data && (
        <ProblemBox error={missing.error} onAgain={() => void missing.refetch()} />
      )}
      {missing.data &&
        (due.length === 0 ? (
          <Empty title={t("nothingDue")} text={t("nothingDueText")} />
        ) : (
          <Due due={due} />
        ))}
      <h2>{t("written")}</h2>
      <Written />
    </Page>
  );
}

function WriteLink({ one }: { one: LogObligation }) {
  const t = useTranslations("logs");
  const word = one.logStatus === "submitted" ? "edit" : one.logStatus === "draft" ? "goOn" : "write";
  const search = { programme: one.programmeId, offering: one.offeringId, week: one.week };
  return (
    <Link
      to="/console/logs"
      search={search as never}
      onClick={() => window.scrollTo({ top: 0 })}
      aria-label={`${t(word)}: ${one.offeringTitle}, ${one.week}`}
    >
      {t(word)}
    </Link>
  );
}

/** The last instant at which it is on time. */
function Deadline({ one }: { one: LogObligation }) {
  return <Time at={new Date(Date.parse(one.deadlineAt) - 60_000).toISOString()} minutes />;
}

function Due({ due }: { due: readonly LogObligation[] }) {
  const t = useTranslations("logs");
  const weekWord = useWeekWord();
  return (
    <Table
      caption={t("due")}
      rows={due}
      rowKey={(one) => `${one.offeringId} ${one.week}`}
      columns={[
        { title: t("offering"), heading: true, cell: (one) => one.offeringTitle },
        { title: t("week"), cell: (one) => weekWord(one.week) },
        { title: t("deadline"), cell: (one) => <Deadline one={one} /> },
        { title: t("state"), cell: (one) => <LogState one={one} /> },
        { title: t("programme"), cell: (one) => one.programmeTitle },
        { title: t("action"), cell: (one) => <WriteLink one={one} /> },
      ]}
    />
  );
}

function LogState({ one }: { one: LogObligation }) {
  const t = useTranslations("logs");
  return (
    <>
      <State state={one.state} />
      {one.exemptReason && ` ${one.exemptReason}`}
      {one.logStatus === "draft" && ` (${t("draft")})`}
    </>
  );
}

function Written() {
  const t = useTranslations("logs");
  const weekWord = useWeekWord();
  const query = useInfiniteQuery(ownLogs(false));
  return (
    <List
      query={query}
      caption={t("written")}
      empty={t("nothingWritten")}
      emptyText={t("nothingWrittenText")}
      rowKey={(one) => `${one.offeringId} ${one.week}`}
      columns={[
        { title: t("week"), heading: true, cell: (one) => weekWord(one.week) },
        { title: t("offering"), cell: (one) => one.offeringTitle },
        { title: t("state"), cell: (one) => <LogState one={one} /> },
        { title: t("programme"), cell: (one) => one.programmeTitle },
        { title: t("action"), cell: (one) => one.logId && <WriteLink one={one} /> },
      ]}
    />
  );
}

/** The form of one log; it waits for what was written before. */
function LogEditor({ one, onDone }: { one: LogObligation; onDone: (log: ActivityLog) => void }) {
  const t = useTranslations("logs");
  const weekWord = useWeekWord();
  const heading = useOpenedHeading();
  const log = useQuery({ ...activityLog(one.logId), refetchOnMount: "always" });
  const isPast = one.state === "missed" || one.state === "late";
  return (
    <section className="panel" aria-label={one.offeringTitle}>
      <h2 ref={heading} tabIndex={-1}>
        {one.offeringTitle}, {weekWord(one.week)}
      </h2>
      <p className="quiet">
        {isPast ? t("isLate") : t("until")} <Deadline one={one} />
      </p>
      {log.error && <ProblemBox error={log.error} onAgain={() => void log.refetch()} />}
      {one.logId && log.isPending && <Loading />}
      {(!one.logId || log.data) && (
        <LogForm
          key={one.logId}
          task={{ ...one, isPast }}
          log={one.logId ? log.data : undefined}
          onDone={onDone}
        />
      )}
      {one.logId && (
        <Action
          label={t("delete")}
          subject={one.offeringTitle}
          question={t("deleteText")}
          roles={["facilitator"]}
          run={() =>
            ask(
              api.DELETE("/api/v1/activity-logs/{logId}", {
                params: { path: { logId: one.logId as string } },
              }),
            )
          }
        />
      )}
    </section>
  );
}
