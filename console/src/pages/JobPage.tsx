import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { job as jobQuery } from "../api/queries";
import type { JobDetail } from "../api/schema";
import { Action } from "../parts/Action";
import { useCode } from "../parts/Code";
import { Facts, Json } from "../parts/Facts";
import { CompletionLink, CourseLink, JobLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { Empty, ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { Time } from "../parts/Time";

/** One job: what it is for, each attempt with its traceback, its log and data. */
export function JobPage() {
  const { jobId } = useParams({ strict: false }) as { jobId: string };
  const { data, error, refetch } = useQuery(jobQuery(jobId));
  return (
    <Page
      title={data?.name ?? (error ? jobId : undefined)}
      actions={data && <JobActions job={data} />}
    >
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && <Details job={data} />}
    </Page>
  );
}

function JobActions({ job }: { job: JobDetail }) {
  const t = useTranslations("jobs");
  const params = { params: { path: { jobId: job.id } } };
  const ended = job.state === "failed" || job.state === "completed";
  return (
    <>
      {job.state === "failed" && (
        <Action
          label={t("retry")}
          primary
          run={() => ask(api.POST("/api/v1/jobs/{jobId}/retry", params))}
        />
      )}
      {job.state === "delayed" && (
        <Action
          label={t("promote")}
          run={() => ask(api.POST("/api/v1/jobs/{jobId}/promote", params))}
        />
      )}
      {!ended && (
        <Action
          label={t("cancel")}
          question={t("cancelText")}
          run={() => ask(api.POST("/api/v1/jobs/{jobId}/cancel", params))}
        />
      )}
    </>
  );
}

function Details({ job }: { job: JobDetail }) {
  const t = useTranslations();
  const outcomeWord = useCode("outcomes");
  return (
    <>
      <Facts
        facts={[
          [t("common.id"), <span className="id">{job.id}</span>],
          [t("common.state"), <State state={job.state} />],
          [t("jobs.queue"), job.queue],
          [
            t("common.attempts"),
            t("jobs.attempt", { made: job.attemptsMade, max: job.maxAttempts }),
          ],
          [t("common.learner"), job.userId && <LearnerLink id={job.userId} />],
          [t("common.course"), job.courseId && <CourseLink id={job.courseId} />],
          [t("jobs.completion"), job.completionId && <CompletionLink id={job.completionId} />],
          [t("jobs.created"), <Time at={job.createdAt} />],
          [t("jobs.runs"), <Time at={job.runAt} />],
          [t("jobs.finished"), job.finishedAt && <Time at={job.finishedAt} />],
          [t("jobs.worker"), job.worker],
          ...(job.waitsFor.length
            ? ([[t("jobs.waitsFor"), job.waitsFor.map((id) => <JobLink key={id} id={id} />)]] as const)
            : []),
        ]}
      />
      {job.failedReason && (
        <p className="banner bad">
          {job.failedReason} {job.reasonCode && <code>{job.reasonCode}</code>}
        </p>
      )}
      <h2>{t("jobs.history")}</h2>
      {job.attempts.length === 0 ? (
        <Empty title={t("jobs.noAttempts")} />
      ) : (
        <Table
          caption={t("jobs.history")}
          rows={job.attempts}
          rowKey={(attempt) => String(attempt.number)}
          columns={[
            { title: "#", heading: true, cell: (attempt) => attempt.number },
            { title: t("common.state"), cell: (attempt) => attempt.outcome && outcomeWord(attempt.outcome) },
            { title: t("jobs.runs"), cell: (attempt) => <Time at={attempt.startedAt} /> },
            { title: t("jobs.finished"), cell: (attempt) => <Time at={attempt.finishedAt} /> },
            { title: t("common.reason"), text: true, cell: (attempt) => attempt.error },
            {
              title: t("jobs.traceback"),
              cell: (attempt) =>
                attempt.traceback && (
                  <details>
                    <summary>{t("jobs.traceback")}</summary>
                    <pre>{attempt.traceback}</pre>
                  </details>
                ),
            },
          ]}
        />
      )}
      <h2>{t("jobs.log")}</h2>
      {job.logs.length === 0 ? (
        <Empty title={t("jobs.noLog")} />
      ) : (
        <ol className="log">
          {job.logs.map((line) => (
            <li key={line.at + line.line}>
              <Time at={line.at} /> {line.line}
            </li>
          ))}
        </ol>
      )}
      <h2>{t("jobs.data")}</h2>
      <Json label={t("jobs.data")} value={job.data} />
      {job.result != null && (
        <>
          <h2>{t("jobs.result")}</h2>
          <Json label={t("jobs.result")} value={job.result} />
        </>
      )}
    </>
  );
}
