import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useFormatter, useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { queues } from "../api/queries";
import type { Queue } from "../api/schema";
import { Action } from "../parts/Action";
import { Page } from "../parts/Page";
import { Empty, Loading, ProblemBox } from "../parts/Problem";
import { LimitQueue, LimitsText } from "../parts/QueueLimits";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { span } from "../parts/Time";

const COUNTED = ["waiting", "delayed", "active", "failed", "completed"] as const;

/** The queues with their counts; a count leads to its jobs. */
export function QueuesPage() {
  const t = useTranslations();
  const format = useFormatter();
  const { data, error, isPending, refetch } = useQuery(queues);
  const count = (queue: Queue, state: (typeof COUNTED)[number]) =>
    queue.counts[state] === 0 ? (
      <span className="quiet">0</span>
    ) : (
      <Link to="/console/jobs" search={{ queue: queue.name, state } as never}>
        {format.number(queue.counts[state])}
      </Link>
    );
  return (
    <Page title={t("queues.title")}>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data?.length === 0 && <Empty title={t("queues.empty")} />}
      {data && data.length > 0 && (
        <Table
          caption={t("queues.title")}
          rows={data}
          rowKey={(queue) => queue.name}
          columns={[
            { title: t("common.name"), heading: true, cell: (queue) => queue.name },
            {
              title: t("common.state"),
              cell: (queue) => (
                <>
                  <State
                    state={queue.paused ? "paused" : "running"}
                    text={t(queue.paused ? "queues.paused" : "queues.running")}
                  />
                  <LimitsText queue={queue} />
                </>
              ),
            },
            ...COUNTED.map((state) => ({
              title: t(`queues.${state}`),
              number: true,
              cell: (queue: Queue) => count(queue, state),
            })),
            {
              title: t("queues.oldest"),
              number: true,
              cell: (queue) =>
                queue.oldestWaitingSeconds == null
                  ? t("common.none")
                  : span(queue.oldestWaitingSeconds),
            },
            { title: t("queues.workers"), number: true, cell: (queue) => queue.workers },
            {
              title: t("common.actions"),
              cell: (queue) => (
                <div className="nowrap">
                  <PauseQueue queue={queue} />{" "}
                  <LimitQueue queue={queue} />
                </div>
              ),
            },
          ]}
        />
      )}
    </Page>
  );
}

function PauseQueue({ queue }: { queue: Queue }) {
  const t = useTranslations("queues");
  const params = { params: { path: { name: queue.name } } };
  if (queue.paused)
    return (
      <Action
        label={t("resume")}
        subject={queue.name}
        run={() => ask(api.POST("/api/v1/queues/{name}/resume", params))}
      />
    );
  return (
    <Action
      label={t("pause")}
      subject={queue.name}
      question={t("pauseText", { name: queue.name })}
      run={() => ask(api.POST("/api/v1/queues/{name}/pause", params))}
    />
  );
}
