/** A percentage as a bar with its number. */

import { useFormatter, useTranslations } from "use-intl";

/** `value` goes from 0 to 100; null where nothing was begun. */
export function Percent({ value, label }: { value: number | null; label: string }) {
  const format = useFormatter();
  const t = useTranslations("common");
  if (value === null) return <>{t("none")}</>;
  return (
    <span className="percent">
      <meter min={0} max={100} value={value} aria-label={label} />
      {format.number(value / 100, { style: "percent", maximumFractionDigits: 1 })}
    </span>
  );
}
