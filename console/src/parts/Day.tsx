/** Dates without a time, and weeks. */

import { useFormatter, useTranslations } from "use-intl";

/** The days belong to no zone, so none may move them. */
const UTC = { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" } as const;

/** A date such as `2026-11-29`. */
export function Day({ on }: { on: string }) {
  const format = useFormatter();
  return (
    <time dateTime={on} className="nowrap">
      {format.dateTime(new Date(on), UTC)}
    </time>
  );
}

/** Return the Monday of a week such as `2026-W48`, as a date in UTC. */
export function mondayOf(week: string): Date {
  const [year, number] = week.split("-W").map(Number) as [number, number];
  const fourth = new Date(Date.UTC(year, 0, 4)); // lies in the first ISO week
  const monday = fourth.getTime() - ((fourth.getUTCDay() + 6) % 7) * 86_400_000;
  return new Date(monday + (number - 1) * 7 * 86_400_000);
}

/** Return the week that is so many weeks later, or earlier: `2026-W48`. */
export function shiftWeek(week: string, weeks: number): string {
  const thursday = new Date(mondayOf(week).getTime() + (weeks * 7 + 3) * 86_400_000);
  const year = thursday.getUTCFullYear();
  const days = (thursday.getTime() - mondayOf(`${year}-W01`).getTime()) / 86_400_000;
  return `${year}-W${String(Math.floor(days / 7) + 1).padStart(2, "0")}`;
}

/** Return a function that words a week: "Week 48, 23–29 Nov 2026". */
export function useWeekWord(): (week: string) => string {
  const t = useTranslations("logs");
  const format = useFormatter();
  return (week) => {
    const monday = mondayOf(week);
    const sunday = new Date(monday.getTime() + 6 * 86_400_000);
    return t("weekOf", {
      number: String(Number(week.slice(-2))),
      days: format.dateTimeRange(monday, sunday, UTC),
    });
  };
}
