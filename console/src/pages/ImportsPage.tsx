import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { useTranslations } from "use-intl";
import { ApiError, api, ask } from "../api/client";
import type { CsvImportReport } from "../api/schema";
import { Page } from "../parts/Page";
import { ProblemBox } from "../parts/Problem";
import { useHasRole } from "../parts/session";
import { Table } from "../parts/Table";

const KINDS = ["people", "enrolments", "programmes", "offerings"] as const;
type Kind = (typeof KINDS)[number];
const AUTHORS_KINDS: readonly Kind[] = ["enrolments"];
/** The columns that a file needs, and those that it may have. */
const COLUMNS: Record<Kind, readonly [string, string]> = {
  people: ["userId, givenName, familyName", "email, managerId, groupIds, roles, locale, timeZone"],
  enrolments: ["courseId, userId", "approved"],
  programmes: [
    "id, title, timeZone, managers",
    "closedOn, lastDayToJoin, graceMinutes, targetWeek, logUrl, perUserTime, lateIsMissed, copyFacilitator, allClear",
  ],
  offerings: ["programmeId, id, title, facilitatorId, startsOn, endsOn", ""],
};

/** Send a file as it is: the server reads it, so that one rule has one place. */
const send = (kind: Kind, file: File, dryRun: boolean) =>
  ask(
    api.POST(`/api/v1/imports/${kind}`, {
      params: { query: { dryRun } },
      // Typed as text by the API document, and sent as the bytes of the file.
      body: file as never,
      bodySerializer: (body) => body as never,
      headers: { "Content-Type": "text/csv" },
    }),
  );

/** A file, what it would change with every fault by line, and then the import. */
export function ImportsPage() {
  const t = useTranslations("imports");
  const isService = useHasRole("service");
  const isAuthor = useHasRole("author");
  // Authors import enrolments alone; those who may import nothing see what there is.
  const kinds = isService || !isAuthor ? KINDS : AUTHORS_KINDS;
  const mayImport = isService || isAuthor;
  const client = useQueryClient();
  const [chosen, setKind] = useState<Kind>();
  const kind = chosen ?? kinds[0] ?? "people";
  const [file, setFile] = useState<File>();
  const ids = [useId(), useId()];
  const check = useMutation({ mutationFn: () => send(kind, file as File, true) });
  const store = useMutation({
    mutationFn: () => send(kind, file as File, false),
    onSuccess: () => client.invalidateQueries(),
  });
  const [needed, optional] = COLUMNS[kind];
  const restart = () => {
    check.reset();
    store.reset();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    store.reset();
    check.mutate();
  };
  const error = (store.error ?? check.error) as ApiError | null;
  const report = store.data ?? check.data;
  return (
    <Page title={t("title")}>
      <p>{t("text")}</p>
      {!mayImport && <p className="quiet">{t("roles")}</p>}
      <form className="filters" onSubmit={submit} aria-label={t("title")}>
        <div>
          <label htmlFor={ids[0]}>{t("kind")}</label>
          <select
            id={ids[0]}
            value={kind}
            onChange={(event) => {
              setKind(event.target.value as Kind);
              restart();
            }}
          >
            {kinds.map((each) => (
              <option key={each} value={each}>
                {t(each)}
              </option>
            ))}
          </select>
        </div>
        <div className="wide">
          <label htmlFor={ids[1]}>{t("file")}</label>
          <input
            id={ids[1]}
            type="file"
            accept=".csv,text/csv"
            required
            onChange={(event) => {
              setFile(event.target.files?.[0]);
              restart();
            }}
          />
        </div>
        <button type="submit" disabled={!file || !mayImport || check.isPending}>
          {t("check")}
        </button>
      </form>
      <p className="quiet">
        {t("needed")} <code>{needed}</code>.{" "}
        {optional && (
          <>
            {t("optional")} <code>{optional}</code>.
          </>
        )}
      </p>
      {error && <ProblemBox error={error} />}
      {report && <Report report={report} />}
      {check.data && !store.data && check.data.faults.length === 0 && (
        <button
          type="button"
          className="primary"
          disabled={store.isPending}
          onClick={() => store.mutate()}
        >
          {t("import")}
        </button>
      )}
    </Page>
  );
}

function Report({ report }: { report: CsvImportReport }) {
  const t = useTranslations("imports");
  const { added, changed, unchanged, faults } = report;
  const counts = { added, changed, unchanged };
  return (
    <>
      <p role="status" className={faults.length > 0 ? "bad" : "good"}>
        {faults.length > 0
          ? t("faulty", { count: faults.length })
          : report.dryRun
            ? t("would", counts)
            : t("did", counts)}
      </p>
      {faults.length > 0 && (
        <Table
          caption={t("faults")}
          rows={faults}
          rowKey={(each) => `${each.line} ${each.column} ${each.detail}`}
          columns={[
            { title: t("line"), number: true, heading: true, cell: (each) => each.line },
            { title: t("column"), cell: (each) => each.column },
            { title: t("fault"), text: true, cell: (each) => each.detail },
          ]}
        />
      )}
    </>
  );
}
