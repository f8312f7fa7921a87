import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { schedules } from "../api/queries";
import type { Schedule } from "../api/schema";
import { Action } from "../parts/Action";
import { useCronWord } from "../parts/Code";
import { Json } from "../parts/Facts";
import { Page } from "../parts/Page";
import { Loading, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Time } from "../parts/Time";

/** When what runs by itself ran last and runs next, what it would do, and a run by hand. */
export function SchedulesPage() {
  const t = useTranslations("schedules");
  const common = useTranslations("common");
  const cronWord = useCronWord();
  const { data, error, isPending, refetch } = useQuery(schedules);
  return (
    <Page title={t("title")}>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && (
        <Table
          caption={t("title")}
          rows={data}
          rowKey={(each) => each.name}
          columns={[
            { title: common("name"), heading: true, cell: (each) => each.name },
            {
              title: t("when"),
              cell: (each) => (
                <>
                  {cronWord(each.cron)}, {each.timeZone}
                  <br />
                  <code className="nowrap quiet">{each.cron}</code>
                </>
              ),
            },
            {
              title: t("next"),
              cell: (each) =>
                each.paused ? (
                  <State state="paused" text={t("paused")} />
                ) : (
                  <Time at={each.nextAt} minutes />
                ),
            },
            { title: t("last"), cell: (each) => <LastSlot schedule={each} /> },
            { title: common("actions"), cell: (each) => <ScheduleActions schedule={each} /> },
          ]}
        />
      )}
    </Page>
  );
}

function LastSlot({ schedule }: { schedule: Schedule }) {
  const t = useTranslations("schedules");
  const slot = schedule.slots[0];
  if (!slot) return <span className="quiet">{t("notYet")}</span>;
  if (slot.state === "missed")
    return (
      <>
        <State state="missed" text={t("missed")} /> <Time at={slot.slotAt} />
      </>
    );
  const late = Math.round(slot.lateSeconds);
  return (
    <>
      {slot.jobId ? (
        <Link to="/console/jobs/$jobId" params={{ jobId: slot.jobId }}>
          <Time at={slot.firedAt} minutes />
        </Link>
      ) : (
        <Time at={slot.firedAt} minutes />
      )}{" "}
      {late > 1 && t("late", { seconds: late })}
    </>
  );
}

function ScheduleActions({ schedule }: { schedule: Schedule }) {
  const t = useTranslations("schedules");
  const path = { name: schedule.name };
  const params = { params: { path } };
  const preview = useMutation({
    mutationFn: () =>
      ask(
        api.POST("/api/v1/schedules/{name}/run", {
          params: { path, query: { dryRun: true } },
        }),
      ),
  });
  return (
    <>
      <div className="buttons">
        <button type="button" onClick={() => preview.mutate()} disabled={preview.isPending}>
          {t("dryRun")}
        </button>
        <Action
          label={t("run")}
          subject={schedule.name}
          question={t("runText")}
          run={() => ask(api.POST("/api/v1/schedules/{name}/run", params))}
        />
        {schedule.paused ? (
          <Action
            label={t("resume")}
            subject={schedule.name}
            run={() => ask(api.POST("/api/v1/schedules/{name}/resume", params))}
          />
        ) : (
          <Action
            label={t("pause")}
            subject={schedule.name}
            run={() => ask(api.POST("/api/v1/schedules/{name}/pause", params))}
          />
        )}
      </div>
      {preview.error && <ProblemBox error={preview.error} />}
      {preview.data && <Json label={t("preview")} value={preview.data.preview} />}
    </>
  );
}
