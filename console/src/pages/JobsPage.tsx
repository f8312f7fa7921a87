import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { type JobFilter, jobs, queues } from "../api/queries";
import type { JobState } from "../api/schema";
import { Action } from "../parts/Action";
import { Choice, Filters, TextFilter, useFilters } from "../parts/Filters";
import { CourseLink, JobLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { State } from "../parts/State";
import { itemsOf, List } from "../parts/Table";
import { Time } from "../parts/Time";

const STATES: readonly JobState[] = [
  "failed",
  "active",
  "waiting",
  "delayed",
  "waiting-children",
  "completed",
];

/** Jobs by queue, state and words, and a retry of all that match. */
export function JobsPage() {
  const t = useTranslations();
  const [search] = useFilters();
  const filter: JobFilter = {
    queue: search.queue,
    state: search.state as JobState | undefined,
    name: search.name,
    q: search.q,
  };
  const query = useInfiniteQuery(jobs(filter));
  const { data: known } = useQuery(queues);
  const failed = itemsOf(query).filter((job) => job.state === "failed").length;
  return (
    <Page
      title={t("jobs.title")}
      actions={
        failed > 0 && (
          <Action
            label={t("jobs.retryAll")}
            primary
            question={t("jobs.retryAllText", { count: failed })}
            run={() =>
              ask(
                api.POST("/api/v1/jobs/bulk", {
                  body: { action: "retry", filter: { ...filter, state: "failed" } },
                }),
              )
            }
            said={({ count }: { count: number }) => t("jobs.retried", { count })}
          />
        )
      }
    >
      <Filters>
        <TextFilter label={t("jobs.search")} name="q" />
        <Choice
          label={t("jobs.queue")}
          name="queue"
          options={known?.map((queue) => queue.name) ?? []}
        />
        <Choice
          label={t("common.state")}
          name="state"
          options={STATES}
          word={(state) => t(`states.${state as JobState}`)}
        />
      </Filters>
      <List
        query={query}
        caption={t("jobs.title")}
        empty={t("jobs.empty")}
        emptyText={t("jobs.emptyText")}
        rowKey={(job) => job.id}
        columns={[
          {
            title: t("common.name"),
            heading: true,
            cell: (job) => (
              <>
                {job.name}
                <br />
                <JobLink id={job.id} />
              </>
            ),
          },
          { title: t("common.state"), cell: (job) => <State state={job.state} /> },
          {
            title: t("common.attempts"),
            number: true,
            cell: (job) =>
              t("jobs.attempt", { made: job.attemptsMade, max: job.maxAttempts }),
          },
          { title: t("common.learner"), cell: (job) => <LearnerLink id={job.userId} /> },
          { title: t("common.course"), cell: (job) => <CourseLink id={job.courseId} /> },
          { title: t("common.reason"), text: true, cell: (job) => job.failedReason ?? job.reasonCode },
          { title: t("jobs.created"), cell: (job) => <Time at={job.createdAt} /> },
          {
            title: t("common.actions"),
            cell: (job) =>
              job.state === "failed" && (
                <Action
                  label={t("jobs.retry")}
                  subject={job.id}
                  run={() =>
                    ask(
                      api.POST("/api/v1/jobs/{jobId}/retry", {
                        params: { path: { jobId: job.id } },
                      }),
                    )
                  }
                />
              ),
          },
        ]}
      />
    </Page>
  );
}
