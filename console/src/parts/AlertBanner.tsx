/** The open alerts on the overview that no operator deals with yet. */

import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useTranslations } from "use-intl";
import { alerts } from "../api/queries";
import { itemsOf } from "./Table";

export function AlertBanner() {
  const t = useTranslations("alerts");
  const open = itemsOf(useInfiniteQuery(alerts("open")));
  const now = Date.now();
  const unhandled = open.filter(
    (each) =>
      !each.acknowledgedAt && !(each.snoozedUntil && Date.parse(each.snoozedUntil) > now),
  );
  if (unhandled.length === 0) return null;
  const isCritical = unhandled.some((each) => each.severity === "critical");
  const names = [...new Set(unhandled.map((each) => t(`kinds.${each.rule}` as "kinds.no_worker")))];
  return (
    <p className={`banner ${isCritical ? "bad" : "warn"}`}>
      <Link to="/console/alerts">{t("banner", { count: unhandled.length })}</Link>{" "}
      {names.join(", ")}
    </p>
  );
}
