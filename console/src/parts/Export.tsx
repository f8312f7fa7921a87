/** The download of a lesson plan: one click for the last format, PDF at first. */

import { useId, useState } from "react";
import { useTranslations } from "use-intl";

const FORMATS = {
  pdf: "PDF",
  docx: "Word",
  md: "Markdown",
  checklist: "Markdown",
  csv: "CSV",
  ics: "iCalendar",
  imscc: "Common Cartridge 1.1",
  "imscc-1.3": "Common Cartridge 1.3",
  json: "JSON",
} as const;
const STORED = "homeroom.export";

export function Export({ planId }: { planId: string }) {
  const t = useTranslations("plans");
  const id = useId();
  const [format, setFormat] = useState(() => localStorage.getItem(STORED) ?? "pdf");
  const choose = (next: string) => {
    localStorage.setItem(STORED, next);
    setFormat(next);
  };
  return (
    <span className="action">
      <label htmlFor={id} className="sr">
        {t("format")}
      </label>
      <select id={id} value={format} onChange={(event) => choose(event.target.value)}>
        {Object.entries(FORMATS).map(([name, word]) => (
          <option key={name} value={name}>
            {name === "checklist" ? t("checklist") : word}
          </option>
        ))}
      </select>
      <a
        className="button"
        href={`/api/v3/workflow/${encodeURIComponent(planId)}/step10/export?format=${format}`}
        download
      >
        {t("export")}
      </a>
    </span>
  );
}
