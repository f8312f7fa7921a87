/** Throughput and latency of the last hour and day, as small charts with a table for each. */

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useFormatter, useTranslations } from "use-intl";
import { history } from "../api/queries";
import type { HistorySeries, MetricHistory } from "../api/schema";
import { Loading, ProblemBox } from "./Problem";
import { Table } from "./Table";
import { Time } from "./Time";

/** What is shown, and whether it is the number or the mean of each span. */
const SHOWN = [
  ["events", "count"],
  ["completions", "count"],
  ["job_completions", "count"],
  ["job_failures", "count"],
  ["requests", "mean"],
  ["commits", "mean"],
  ["job_waits", "mean"],
  ["owed_steps", "mean"],
] as const;
type Shown = (typeof SHOWN)[number];
const METRICS = SHOWN.map(([metric]) => metric).join(",");
const WIDTH = 240;
const HEIGHT = 48;

export function History() {
  const t = useTranslations("history");
  const [resolution, setResolution] = useState<"minute" | "hour">("minute");
  const { data, error, isPending, refetch } = useQuery(history(METRICS, resolution));
  return (
    <section aria-labelledby="history">
      <h2 id="history">{t("title")}</h2>
      <p className="buttons">
        {(["minute", "hour"] as const).map((each) => (
          <button
            key={each}
            type="button"
            aria-pressed={resolution === each}
            onClick={() => setResolution(each)}
          >
            {t(each)}
          </button>
        ))}
      </p>
      {isPending && <Loading />}
      {error && <ProblemBox error={error} onAgain={() => void refetch()} />}
      {data && data.series.every((each) => each.points.length === 0) && (
        <p className="quiet">{t("empty")}</p>
      )}
      {data && (
        <div className="charts">
          {SHOWN.map((shown) => (
            <Chart key={shown[0]} shown={shown} history={data} />
          ))}
        </div>
      )}
    </section>
  );
}

interface Span {
  at: string;
  value: number;
}

/** Return every span of the history; one without a point is 0. */
function spans(history: MetricHistory, series: HistorySeries | undefined, kind: Shown[1]): Span[] {
  const values = new Map(
    series?.points.map((point) => [
      Date.parse(point.at),
      kind === "count" ? point.count : (point.mean ?? 0),
    ]),
  );
  const step = history.resolutionSeconds * 1_000;
  const found: Span[] = [];
  for (let at = Date.parse(history.start); at < Date.parse(history.end); at += step)
    found.push({ at: new Date(at).toISOString(), value: values.get(at) ?? 0 });
  return found;
}

function Chart({ shown: [metric, kind], history }: { shown: Shown; history: MetricHistory }) {
  const t = useTranslations("history");
  const common = useTranslations("common");
  const format = useFormatter();
  const series = history.series.find((each) => each.metric === metric);
  const all = spans(history, series, kind);
  const name = t(`metrics.${metric}`);
  const word = (value: number) =>
    series?.unit === "seconds"
      ? value < 1
        ? t("milliseconds", { value: format.number(value * 1_000, { maximumFractionDigits: 1 }) })
        : t("seconds", { value: format.number(value, { maximumFractionDigits: 1 }) })
      : format.number(value, { maximumFractionDigits: 1 });
  const highest = Math.max(...all.map((each) => each.value), 0);
  const last = all.at(-1)?.value ?? 0;
  const bar = WIDTH / Math.max(all.length, 1);
  return (
    <figure>
      <figcaption>
        {name} <span className="quiet">
          {highest ? t("peak", { value: word(highest) }) : t("nothing")}
        </span>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={t("summary", { name, highest: word(highest), last: word(last) })}
      >
        {all.map(({ at, value }, index) => {
          const height = highest ? (value / highest) * (HEIGHT - 1) : 0;
          return (
            <rect
              key={at}
              x={index * bar}
              y={HEIGHT - height}
              width={Math.max(bar - 0.5, 0.5)}
              height={height}
            />
          );
        })}
        <line x1="0" y1={HEIGHT - 0.5} x2={WIDTH} y2={HEIGHT - 0.5} />
      </svg>
      <details>
        <summary>{t("table", { name })}</summary>
        <Table
          caption={name}
          rows={all.filter((each) => each.value !== 0)}
          rowKey={(each) => each.at}
          columns={[
            { title: common("time"), heading: true, cell: (each) => <Time at={each.at} /> },
            { title: name, number: true, cell: (each) => word(each.value) },
          ]}
        />
      </details>
    </figure>
  );
}
