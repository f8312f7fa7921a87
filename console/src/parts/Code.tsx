/** Words for codes of data, such as types of messages, and for times of schedules. */

import { useFormatter, useTranslations } from "use-intl";
import type { Messages } from "../messages/en";

type Group = Exclude<keyof Messages["words"], "cron">;

/** Return a function that words a code of a group; one without a word is returned as it is. */
export function useCode(group: Group): (code: string) => string {
  const t = useTranslations("words");
  return (code) => {
    const key = `${group}.${code}` as "channels.email";
    return t.has(key) ? t(key) : code;
  };
}

const CRON = /^(\d+) (\d+|\*) \* \* ([0-7]|\*)$/;

/** Return a function that words a cron text of the usual kinds; another is returned as it is. */
export function useCronWord(): (cron: string) => string {
  const t = useTranslations("words.cron");
  const format = useFormatter();
  return (cron) => {
    const [, every] = /^\*\/(\d+) \* \* \* \*$/.exec(cron) ?? [];
    if (every) return t("everyMinutes", { count: every });
    const [, minute, hour, weekday] = CRON.exec(cron) ?? [];
    if (!minute || !hour || !weekday) return cron;
    if (hour === "*") return weekday === "*" ? t("hourly", { minute: minute.padStart(2, "0") }) : cron;
    const time = `${hour.padStart(2, "0")}:${minute.padStart(2, "0")}`;
    if (weekday === "*") return t("daily", { time });
    // 4 January 2026 is a Sunday, the day 0 of a cron text.
    const date = new Date(Date.UTC(2026, 0, 4 + (Number(weekday) % 7)));
    return t("weekly", { day: format.dateTime(date, { weekday: "long", timeZone: "UTC" }), time });
  };
}
