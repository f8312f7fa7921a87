import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { lesson } from "../api/people_queries";
import type { LessonPage as Lesson, PrintedBlock } from "../api/schema";
import { Export } from "../parts/Export";
import { Page } from "../parts/Page";
import { ProblemBox } from "../parts/Problem";
import { useHasRole } from "../parts/session";
import { useWhileWriting } from "../parts/writing";
import { LessonForm } from "./LessonForm";

/** A lesson as it will print, beside the form that changes it. */
export function LessonPage() {
  const t = useTranslations("plans");
  const { planId, lessonId } = useParams({ strict: false }) as { planId: string; lessonId: string };
  const { data, error, refetch } = useQuery({
    ...lesson(planId, lessonId),
    refetchInterval: useWhileWriting(planId),
  });
  const isAuthor = useHasRole("author");
  return (
    <Page title={data?.printed.title ?? (error ? lessonId : undefined)} actions={<Export planId={planId} />}>
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && (
        <>
          <Beside page={data} />
          <div className={isAuthor ? "beside" : undefined}>
            {isAuthor && <LessonForm key={lessonId} page={data} />}
            <section id="as-printed" aria-label={t("asPrinted")}>
              <h2>{t("asPrinted")}</h2>
              <article
                className="paper"
                lang={data.printed.locale}
                dir={data.printed.rightToLeft ? "rtl" : "ltr"}
              >
                <p className="paper-title">{data.printed.title}</p>
                {data.printed.blocks.map((block, index) => (
                  <Block key={index} block={block} />
                ))}
              </article>
            </section>
          </div>
        </>
      )}
    </Page>
  );
}

/** Links to the plan and to the lessons before and after. */
function Beside({ page }: { page: Lesson }) {
  const t = useTranslations("plans");
  const planId = page.workflowId;
  const to = (lessonId: string | null | undefined, word: string) =>
    lessonId && (
      <Link to="/console/plans/$planId/lessons/$lessonId" params={{ planId, lessonId }}>
        {word}
      </Link>
    );
  return (
    <p className="buttons">
      <Link to="/console/plans/$planId" params={{ planId }}>
        {page.planTitle}
      </Link>
      {to(page.previousId, t("previous"))}
      {to(page.nextId, t("following"))}
      <a href="#as-printed">{t("asPrinted")}</a>
    </p>
  );
}

function Block({ block }: { block: PrintedBlock }) {
  switch (block.kind) {
    case "heading":
      return <h3>{block.text}</h3>;
    case "list":
      return (
        <ul>
          {block.items?.map((each, index) => (
            <li key={index}>{each}</li>
          ))}
        </ul>
      );
    case "table":
      return (
        <div className="scroll" tabIndex={0} role="group" aria-label={block.columns?.join(", ")}>
          <table>
            <thead>
              <tr>
                {block.columns?.map((each, index) => (
                  <th key={index} scope="col">
                    {each}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {block.rows?.map((row, index) => (
                <tr key={index}>
                  {row.map((each, column) => (
                    <td key={column} className="prose">
                      {each}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    case "lines":
      return (
        <>
          <h3>{block.text}</h3>
          {block.items?.map((each, index) => (
            <p key={index} className="ruled">
              {each}
            </p>
          ))}
          {Array.from({ length: block.lines ?? 0 }, (_, index) => (
            <p key={index} className="ruled" aria-hidden="true">
              {" "}
            </p>
          ))}
        </>
      );
    default:
      return <p className={`prose ${block.kind}`}>{block.text}</p>;
  }
}
