import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useState } from "react";
import { useTranslations } from "use-intl";
import { activityLog, programme, programmeWeeks, upcoming } from "../api/people_queries";
import type { ProgrammeCell, ProgrammeOfferingWeeks, UpcomingMessages } from "../api/schema";
import { useCode } from "../parts/Code";
import { mondayOf, shiftWeek, useWeekWord } from "../parts/Day";
import { useFilters } from "../parts/Filters";
import { useOpenedHeading } from "../parts/opened";
import { Page } from "../parts/Page";
import { Empty, Loading, ProblemBox } from "../parts/Problem";
import { useUserId } from "../parts/session";
import { State } from "../parts/State";
import { itemsOf } from "../parts/Table";
import { Time } from "../parts/Time";
import { Exemptions } from "./Exemptions";
import { LogForm } from "./LogForm";

const SHOWN_WEEKS = 6;

/** A programme: its weeks with each offering's log, what goes out next, and who is exempt. */
export function ProgrammePage() {
  const t = useTranslations("programmes");
  const { programmeId } = useParams({ strict: false }) as { programmeId: string };
  const { data, error, refetch } = useQuery(programme(programmeId));
  const userId = useUserId();
  const isManager = userId !== null && (data?.managers.includes(userId) ?? false);
  return (
    <Page title={data?.title ?? (error ? programmeId : undefined)}>
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && (
        <>
          <h2>{t("weeks")}</h2>
          <Weeks programmeId={programmeId} isManager={isManager} />
          <h2 id="next">{t("next")}</h2>
          <Next programmeId={programmeId} />
          <h2>{t("exemptions")}</h2>
          <Exemptions programmeId={programmeId} isManager={isManager} />
        </>
      )}
    </Page>
  );
}

interface GridProps {
  programmeId: string;
  isManager: boolean;
}

function Weeks({ programmeId, isManager }: GridProps) {
  const t = useTranslations("programmes");
  const common = useTranslations("common");
  const [{ week, offering, cell }, change] = useFilters();
  const to = week && /^\d{4}-W\d{2}$/.test(week) ? week : undefined;
  const query = useInfiniteQuery(
    programmeWeeks(programmeId, to && shiftWeek(to, 1 - SHOWN_WEEKS), to),
  );
  const first = query.data?.pages[0];
  if (query.isPending) return <Loading />;
  if (!first) return <ProblemBox error={query.error as Error} onAgain={() => void query.refetch()} />;
  const weeks = first.weeks.slice(-SHOWN_WEEKS);
  const last = weeks.at(-1) as string;
  const rows = itemsOf(query);
  const chosen = rows.find((row) => row.offeringId === offering);
  return (
    <>
      <div className="buttons">
        <button type="button" onClick={() => change({ week: shiftWeek(last, -SHOWN_WEEKS) })}>
          {t("earlier")}
        </button>
        <button
          type="button"
          disabled={last >= first.currentWeek}
          onClick={() => {
            const later = shiftWeek(last, SHOWN_WEEKS);
            change({ week: later < first.currentWeek ? later : undefined });
          }}
        >
          {t("later")}
        </button>
        <span className="quiet">{t("legend")}</span>
      </div>
      {rows.length === 0 ? (
        <Empty title={t("noOfferings")} text={t("noOfferingsText")} />
      ) : (
        <Grid
          rows={rows}
          weeks={weeks}
          current={first.currentWeek}
          choose={(offeringId, key) => change({ offering: offeringId, cell: key })}
        />
      )}
      {query.hasNextPage && (
        <button type="button" className="more" onClick={() => void query.fetchNextPage()}>
          {common("more")}
        </button>
      )}
      {chosen && cell && chosen.weeks[cell] && (
        <CellPanel
          key={`${offering} ${cell}`}
          row={chosen}
          week={cell}
          cell={chosen.weeks[cell]}
          isManager={isManager}
          onClose={() => {
            document
              .querySelector<HTMLElement>(`[data-cell="${CSS.escape(`${offering} ${cell}`)}"]`)
              ?.focus();
            change({ offering: undefined, cell: undefined });
          }}
        />
      )}
    </>
  );
}

interface WeekGridProps {
  rows: readonly ProgrammeOfferingWeeks[];
  weeks: readonly string[];
  current: string;
  choose: (offeringId: string, week: string) => void;
}

function Grid({ rows, weeks, current, choose }: WeekGridProps) {
  const t = useTranslations();
  const weekWord = useWeekWord();
  return (
    <div
      className="scroll cards-if-narrow"
      tabIndex={0}
      role="region"
      aria-label={t("programmes.weeks")}
    >
      <table role="table">
        <caption className="sr">{t("programmes.weeks")}</caption>
        <thead role="rowgroup">
          <tr role="row">
            <th scope="col" role="columnheader">
              {t("logs.offering")}
            </th>
            {weeks.map((week) => (
              <th key={week} scope="col" role="columnheader" title={weekWord(week)}>
                {week.slice(5)}
                {week === current && <span className="quiet"> {t("programmes.now")}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr key={row.offeringId} role="row">
              <th scope="row" role="rowheader">
                {row.title}
                <br />
                <span className="quiet">{row.facilitatorName}</span>
              </th>
              {weeks.map((week) => {
                const cell = row.weeks[week];
                return (
                  <td key={week} role="cell" data-label={week.slice(5)}>
                    {cell && (
                      <button
                        type="button"
                        className="cell"
                        data-cell={`${row.offeringId} ${week}`}
                        aria-label={`${t(`states.${cell.state}`)}: ${row.title}, ${weekWord(week)}`}
                        onClick={() => choose(row.offeringId, week)}
                      >
                        <State state={cell.state} />
                      </button>
                    )}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Whether a message would go out by some channel. */
function isSent(message: UpcomingMessages["messages"][number]): boolean {
  return message.deliveries.some(({ status }) => status === "pending");
}

/** The channels by which a message would go out; without one, why it does not. */
function Channels({ message }: { message: UpcomingMessages["messages"][number] }) {
  const t = useTranslations("programmes");
  const word = useCode("channels");
  const sent = message.deliveries.filter(({ status }) => status === "pending");
  if (sent.length > 0) return <>{sent.map(({ channel }) => word(channel)).join(", ")}</>;
  const reason = message.deliveries.map((each) => each.reason).find(Boolean);
  return (
    <>
      <State state="skipped" text={t("notSent")} /> {reason}
    </>
  );
}

interface CellPanelProps {
  row: ProgrammeOfferingWeeks;
  week: string;
  cell: ProgrammeCell;
  isManager: boolean;
  onClose: () => void;
}

/** One week of an offering: its log, or the form with which a manager enters a missing one. */
function CellPanel({ row, week, cell, isManager, onClose }: CellPanelProps) {
  const t = useTranslations("programmes");
  const common = useTranslations("common");
  const weekWord = useWeekWord();
  const [said, setSaid] = useState("");
  const heading = useOpenedHeading();
  const monday = mondayOf(week);
  const day = (days: number) =>
    new Date(monday.getTime() + days * 86_400_000).toISOString().slice(0, 10);
  const canEnter = isManager && !cell.logId && cell.state !== "exempt";
  return (
    <section className="panel" aria-label={row.title}>
      <h3 ref={heading} tabIndex={-1}>
        {row.title}, {weekWord(week)}
      </h3>
      <p>
        <State state={cell.state} /> {cell.exemptReason} {row.facilitatorName}
      </p>
      <p role="status" className="good">
        {said}
      </p>
      {cell.logId && <WrittenLog logId={cell.logId} />}
      {canEnter && (
        <>
          <p className="quiet">{t("enterText", { name: row.facilitatorName })}</p>
          <LogForm
            task={{
              offeringId: row.offeringId,
              week,
              startsOn: day(0),
              endsOn: day(6),
              isPast: cell.state !== "open",
            }}
            forAnother
            onDone={() => setSaid(t("entered"))}
          />
        </>
      )}
      <button type="button" onClick={onClose}>
        {common("close")}
      </button>
    </section>
  );
}

function WrittenLog({ logId }: { logId: string }) {
  const t = useTranslations("logs");
  const { data, error, isPending } = useQuery(activityLog(logId));
  if (isPending) return <Loading />;
  if (error) return <ProblemBox error={error} />;
  const sessions = (data.attendance ?? []) as { heldOn: string; present: number; expected?: number }[];
  return (
    <>
      <p>
        {t("submittedAt")} <Time at={data.submittedAt} minutes />
      </p>
      {data.lateReason && (
        <p>
          {t("lateReason")}: {data.lateReason}
        </p>
      )}
      <ul>
        {sessions.map((each) => (
          <li key={each.heldOn}>
            {each.heldOn}: {each.present}
            {each.expected != null && ` / ${each.expected}`} {t("presentShort")}
          </li>
        ))}
        {Object.entries(data.grading ?? {}).map(([name, status]) => (
          <li key={name}>
            {name}: {t.has(status as never) ? t(status as never) : status}
          </li>
        ))}
      </ul>
      {data.notes && <p className="prose">{data.notes}</p>}
    </>
  );
}

/** The coming reminder, warning and report: when, and to whom. */
function Next({ programmeId }: { programmeId: string }) {
  const t = useTranslations("programmes");
  const { data, error, isPending, refetch } = useQuery(upcoming(programmeId));
  if (isPending) return <Loading />;
  if (error) return <ProblemBox error={error} onAgain={() => void refetch()} />;
  if (data.length === 0) return <Empty title={t("nothingNext")} text={t("nothingNextText")} />;
  return (
    <div className="cards">
      {data.map((each) => (
        <Slot key={each.schedule} slot={each} />
      ))}
    </div>
  );
}

function Slot({ slot }: { slot: UpcomingMessages }) {
  const t = useTranslations("programmes");
  const weekWord = useWeekWord();
  return (
    <section className="panel" aria-label={t(slot.kind)}>
      <h3>{t(slot.kind)}</h3>
      <p>{slot.slotAt ? <Time at={slot.slotAt} minutes /> : <State state="paused" text={t("paused")} />}</p>
      {slot.week && <p className="quiet">{t("about", { week: weekWord(slot.week) })}</p>}
      <p>{t("recipients", { count: slot.messages.filter(isSent).length })}</p>
      <ul>
        {slot.messages.map((each, index) => (
          <li key={`${each.type} ${each.userId} ${index}`}>
            {each.name}
            <span className="quiet">
              {slot.kind === "report" && ` ${t.has(each.type as never) ? t(each.type as never) : each.type}`}
              {": "}
              <Channels message={each} />
            </span>
          </li>
        ))}
      </ul>
      {slot.sentBefore > 0 && <p className="quiet">{t("sentBefore", { count: slot.sentBefore })}</p>}
      {slot.others.length > 0 && (
        <details>
          <summary>{t("others", { count: slot.others.length })}</summary>
          <ul>
            {slot.others.map((each) => (
              <li key={each.userId}>
                {each.name}: <span className="quiet">{each.reason}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}
