import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useFormatter, useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { completion } from "../api/queries";
import type { CompletionDetail, CompletionStep } from "../api/schema";
import { Action } from "../parts/Action";
import { useCode } from "../parts/Code";
import { Facts } from "../parts/Facts";
import { CompletionLink, CourseLink, JobLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { ProblemBox } from "../parts/Problem";
import { State } from "../parts/State";
import { Table } from "../parts/Table";
import { span, Time } from "../parts/Time";

/** One completion: its steps, why each is not done, and a retry. */
export function CompletionPage() {
  const t = useTranslations("completions");
  const { completionId } = useParams({ strict: false }) as { completionId: string };
  const { data, error, refetch } = useQuery(completion(completionId));
  return (
    <Page title={data ? `${data.userId}: ${data.courseTitle}` : error ? t("title") : undefined}>
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && <Details completion={data} />}
    </Page>
  );
}

function Details({ completion }: { completion: CompletionDetail }) {
  const t = useTranslations();
  const format = useFormatter();
  const stepWord = useCode("steps");
  return (
    <>
      <Facts
        facts={[
          [t("common.learner"), <LearnerLink id={completion.userId} />],
          [
            t("common.course"),
            <CourseLink id={completion.courseId} title={completion.courseTitle} />,
          ],
          [t("completions.completedAt"), <Time at={completion.completedAt} />],
          [t("completions.score"), completion.score != null && format.number(completion.score, { style: "percent" })],
          [t("courses.timeSpent"), span(completion.timeSpent)],
          [
            t("completions.superseded"),
            completion.supersededBy && <CompletionLink id={completion.supersededBy} />,
          ],
        ]}
      />
      <h2>{t("completions.steps")}</h2>
      <Table
        caption={t("completions.steps")}
        rows={completion.steps}
        rowKey={(step) => step.name}
        columns={[
          { title: t("completions.step"), heading: true, cell: (step) => stepWord(step.name) },
          { title: t("common.status"), cell: (step) => <State state={step.status} /> },
          { title: t("common.attempts"), number: true, cell: (step) => step.attempts },
          {
            title: t("completions.lastError"),
            text: true,
            cell: (step) => (
              <>
                {step.lastError ?? step.skipReason}{" "}
                {step.reasonCode && <code>{step.reasonCode}</code>}
              </>
            ),
          },
          { title: t("completions.next"), cell: (step) => <Time at={step.nextAttemptAt} /> },
          { title: t("jobs.finished"), cell: (step) => <Time at={step.finishedAt} /> },
          { title: t("completions.job"), cell: (step) => <JobLink id={step.jobId} /> },
          { title: t("completions.external"), cell: (step) => <Outside id={step.externalId} /> },
          { title: t("common.actions"), cell: (step) => <RetryStep id={completion.id} step={step} /> },
        ]}
      />
      {completion.notes.length > 0 && (
        <>
          <h2>{t("completions.notes")}</h2>
          <ul>
            {completion.notes.map((note) => (
              <li key={note.at + note.text}>
                <Time at={note.at} /> {note.text}
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

/** What a partner calls it: a link where it is an address of the web. */
function Outside({ id }: { id: string | null }) {
  const t = useTranslations("common");
  if (!id) return <>{t("none")}</>;
  return /^https?:\/\//.test(id) ? (
    <a href={id} rel="noreferrer">
      {id}
    </a>
  ) : (
    <span className="id">{id}</span>
  );
}

function RetryStep({ id, step }: { id: string; step: CompletionStep }) {
  const t = useTranslations("completions");
  if (step.status === "completed" || step.status === "active") return null;
  const path = { completionId: id, name: step.name };
  return (
    <Action
      label={t("retry")}
      subject={step.name}
      run={() =>
        ask(
          api.POST("/api/v1/completions/{completionId}/steps/{name}/retry", { params: { path } }),
        )
      }
    />
  );
}
