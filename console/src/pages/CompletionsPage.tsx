import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { type CompletionFilter, completions, retriable, summary } from "../api/queries";
import type { CompletionRetry } from "../api/schema";
import { Action } from "../parts/Action";
import { useCode } from "../parts/Code";
import { Choice, Filters, TextFilter, useFilters } from "../parts/Filters";
import { CompletionLink, CourseLink, LearnerLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { State } from "../parts/State";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

const STATUSES = ["outstanding", "failed", "waiting", "active", "skipped", "completed"] as const;

/** Which learner got what, and why not; a retry of all steps that match. */
export function CompletionsPage() {
  const t = useTranslations();
  const stepWord = useCode("steps");
  const [search] = useFilters();
  const { step, reason, userId, courseId } = search;
  const status = search.status as CompletionFilter["status"];
  const query = useInfiniteQuery(completions({ step, status, reason, userId, courseId }));
  const { data: figures } = useQuery(summary);
  return (
    <Page title={t("completions.title")} actions={step && <RetryAll step={step} />}>
      <Filters>
        <Choice
          label={t("completions.step")}
          name="step"
          options={Object.keys(figures?.steps ?? {})}
          word={stepWord}
        />
        <Choice
          label={t("common.status")}
          name="status"
          options={STATUSES}
          word={(each) =>
            each === "outstanding" ? t("overview.outstanding") : t(`states.${each}` as never)
          }
        />
        <TextFilter label={t("common.learner")} name="userId" />
        <TextFilter label={t("common.course")} name="courseId" />
        <TextFilter label={t("common.reason")} name="reason" />
      </Filters>
      <List
        query={query}
        caption={t("completions.title")}
        empty={t("completions.empty")}
        emptyText={t("completions.emptyText")}
        rowKey={(each) => each.id}
        columns={[
          { title: t("common.learner"), heading: true, cell: (each) => <LearnerLink id={each.userId} /> },
          {
            title: t("common.course"),
            cell: (each) => <CourseLink id={each.courseId} title={each.courseTitle} />,
          },
          { title: t("completions.completedAt"), cell: (each) => <Time at={each.completedAt} /> },
          {
            title: t("completions.steps"),
            text: true,
            cell: (each) => (
              <ul className="steps">
                {each.steps
                  .filter((one) => !step || one.name === step)
                  .map((one) => (
                    <li key={one.name}>
                      {stepWord(one.name)}: <State state={one.status} />{" "}
                      {one.status !== "completed" && (
                        <span className={one.lastError ? undefined : "quiet"}>
                          {one.lastError ?? one.skipReason}
                        </span>
                      )}
                    </li>
                  ))}
              </ul>
            ),
          },
          { title: t("common.id"), cell: (each) => <CompletionLink id={each.id} /> },
        ]}
      />
    </Page>
  );
}

/** Ask how many steps match, and retry exactly those. */
function RetryAll({ step }: { step: string }) {
  const t = useTranslations("completions");
  const [{ status: shown, reason, userId, courseId }] = useFilters();
  const status: CompletionRetry["status"] =
    shown === "waiting" || shown === "skipped" ? shown : "failed";
  const filter = { step, status, reason, userId, courseId };
  const { data } = useQuery(retriable(filter));
  const count = data?.count ?? 0;
  return (
    <Action
      label={t("retryAll")}
      primary
      disabled={count === 0}
      question={t("retryAllText", { count })}
      run={() => ask(api.POST("/api/v1/completions/retry", { body: { ...filter, dryRun: false } }))}
      said={({ count }: { count: number }) => t("retried", { count })}
    />
  );
}
