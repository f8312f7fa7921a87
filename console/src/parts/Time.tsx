/** Times with their zone, and spans of time. */

import { useFormatter, useTranslations } from "use-intl";

interface TimeProps {
  at: string | null | undefined;
  /** Leave out the seconds, as of what is planned. */
  minutes?: boolean;
}

/** A time in the reader's zone, which is named; the title has it in UTC. */
export function Time({ at, minutes = false }: TimeProps) {
  const format = useFormatter();
  const t = useTranslations("common");
  if (!at) return <>{t("none")}</>;
  const text = format.dateTime(new Date(at), {
    dateStyle: undefined,
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    ...(!minutes && { second: "2-digit" as const }),
    timeZoneName: "short",
  });
  return (
    <time dateTime={at} title={at} className="nowrap">
      {text}
    </time>
  );
}

/** Return seconds as people say them: "12 s", "3 min", "2 h 5 min", "4 d". */
export function span(seconds: number): string {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} d`;
}
