/** The form of a week's log: sessions, grading and notes, for its facilitator or a manager. */

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import type { ActivityLog, ActivityLogPatchBody } from "../api/schema";
import { Field, FormProblem, faultsOf } from "../parts/Form";

/** Which log it is, and what is known of it. */
export interface LogTask {
  offeringId: string;
  week: string;
  /** The first and the last day of the week. */
  startsOn: string;
  endsOn: string;
  isPast: boolean;
}

interface Session {
  key: number;
  heldOn: string;
  present: string;
  expected: string;
}
interface Grade {
  key: number;
  name: string;
  status: string;
}
const GRADES = ["not_started", "pending", "done"] as const;

interface LogFormProps {
  task: LogTask;
  /** What was written before. */
  log?: ActivityLog;
  /** Whether a manager enters it for the facilitator: only with a reason. */
  forAnother?: boolean;
  onDone: (log: ActivityLog) => void;
}

export function LogForm({ task, log, forAnother = false, onDone }: LogFormProps) {
  const t = useTranslations("logs");
  const client = useQueryClient();
  const [sessions, setSessions] = useState(() => sessionsOf(log));
  const [grades, setGrades] = useState(() => gradesOf(log));
  const [notes, setNotes] = useState(log?.notes ?? "");
  const [lateReason, setLateReason] = useState(log?.lateReason ?? "");
  const isDraft = log?.status !== "submitted";
  const save = useMutation({
    mutationFn: (status: "draft" | "submitted") => {
      // Rows in which nothing was entered go, so that faults are counted as the form shows them.
      const held = sessions.filter((row) => row.heldOn || row.present || row.expected);
      const graded = grades.filter(({ name }) => name.trim());
      setSessions(held);
      setGrades(graded);
      const body = {
        attendance: held.map(({ heldOn, present, expected }) => ({
          heldOn: heldOn || null,
          present: numberOf(present),
          expected: expected === "" ? null : numberOf(expected),
        })),
        grading: Object.fromEntries(graded.map(({ name, status }) => [name.trim(), status])),
        notes: notes || null,
        lateReason: lateReason.trim() || null,
        ...(isDraft && { status }),
      } as ActivityLogPatchBody;
      return ask<ActivityLog>(
        log
          ? api.PATCH("/api/v1/activity-logs/{logId}", {
              params: { path: { logId: log.id } },
              body,
            })
          : api.POST("/api/v1/activity-logs", {
              body: { offeringId: task.offeringId, week: task.week, ...body } as never,
            }),
      );
    },
    onSuccess: (saved) => {
      void client.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
      onDone(saved);
    },
  });
  const faults = faultsOf(save.error);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate("submitted");
  };
  return (
    <form className="form" onSubmit={submit} noValidate>
      <FormProblem error={save.error} isShown={(pointer) => SHOWN.test(pointer)} />
      <Sessions task={task} rows={sessions} change={setSessions} faults={faults} />
      <Grades rows={grades} change={setGrades} faults={faults} />
      <Field label={t("notes")} fault={faults.get("#/notes")} wide>
        {(input) => (
          <textarea
            {...input}
            rows={6}
            value={notes}
            onChange={(event) => setNotes(event.target.value)}
          />
        )}
      </Field>
      {(forAnother || task.isPast) && (
        <Field
          label={t(task.isPast ? "lateReason" : "enterReason")}
          fault={faults.get("#/lateReason")}
          hint={t(forAnother ? "lateReasonNeeded" : "lateReasonText")}
          wide
        >
          {(input) => (
            <input
              {...input}
              value={lateReason}
              maxLength={500}
              onChange={(event) => setLateReason(event.target.value)}
            />
          )}
        </Field>
      )}
      <div className="buttons">
        <button type="submit" className="primary" disabled={save.isPending}>
          {t(isDraft ? "submit" : "save")}
        </button>
        {isDraft && !forAnother && (
          <button type="button" disabled={save.isPending} onClick={() => save.mutate("draft")}>
            {t("saveDraft")}
          </button>
        )}
      </div>
    </form>
  );
}

/** The faults that stand at a field of this form. */
const SHOWN = /^#\/(notes|lateReason|attendance\/\d+(\/(heldOn|present|expected))?|grading\/.+)$/;

interface Rows<T> {
  rows: readonly T[];
  change: (rows: readonly T[]) => void;
  faults: ReadonlyMap<string, string>;
}

function Sessions({ task, rows, change, faults }: Rows<Session> & { task: LogTask }) {
  const t = useTranslations("logs");
  const set = (key: number, part: Partial<Session>) =>
    change(rows.map((row) => (row.key === key ? { ...row, ...part } : row)));
  return (
    <fieldset>
      <legend>{t("attendance")}</legend>
      {rows.map((row, index) => {
        const at = `#/attendance/${index}`;
        return (
          <div key={row.key} className="row" role="group" aria-label={t("session", { number: index + 1 })}>
            <Field label={t("heldOn")} fault={faults.get(`${at}/heldOn`)}>
              {(input) => (
                <input
                  {...input}
                  type="date"
                  min={task.startsOn}
                  max={task.endsOn}
                  value={row.heldOn}
                  onChange={(event) => set(row.key, { heldOn: event.target.value })}
                />
              )}
            </Field>
            {(["present", "expected"] as const).map((name) => (
              <Field
                key={name}
                label={t(name)}
                fault={faults.get(`${at}/${name}`) ?? (name === "present" ? faults.get(at) : undefined)}
              >
                {(input) => (
                  <input
                    {...input}
                    type="number"
                    min={0}
                    inputMode="numeric"
                    value={row[name]}
                    onChange={(event) => set(row.key, { [name]: event.target.value })}
                  />
                )}
              </Field>
            ))}
            <button
              type="button"
              aria-label={t("removeSession", { number: index + 1 })}
              onClick={() => change(rows.filter(({ key }) => key !== row.key))}
            >
              {t("remove")}
            </button>
          </div>
        );
      })}
      <button
        type="button"
        onClick={() => change([...rows, { key: nextKey(rows), heldOn: "", present: "", expected: "" }])}
      >
        {t("addSession")}
      </button>
    </fieldset>
  );
}

function Grades({ rows, change, faults }: Rows<Grade>) {
  const t = useTranslations("logs");
  const set = (key: number, part: Partial<Grade>) =>
    change(rows.map((row) => (row.key === key ? { ...row, ...part } : row)));
  return (
    <fieldset>
      <legend>{t("grading")}</legend>
      {rows.map((row, index) => (
        <div key={row.key} className="row" role="group" aria-label={t("grade", { number: index + 1 })}>
          <Field label={t("gradeName")} fault={faults.get(`#/grading/${row.name.trim()}`)}>
            {(input) => (
              <input
                {...input}
                value={row.name}
                maxLength={100}
                onChange={(event) => set(row.key, { name: event.target.value })}
              />
            )}
          </Field>
          <Field label={t("gradeStatus")}>
            {(input) => (
              <select
                {...input}
                value={row.status}
                onChange={(event) => set(row.key, { status: event.target.value })}
              >
                {GRADES.map((each) => (
                  <option key={each} value={each}>
                    {t(each)}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <button
            type="button"
            aria-label={t("removeGrade", { number: index + 1 })}
            onClick={() => change(rows.filter(({ key }) => key !== row.key))}
          >
            {t("remove")}
          </button>
        </div>
      ))}
      <button
        type="button"
        onClick={() => change([...rows, { key: nextKey(rows), name: "", status: "pending" }])}
      >
        {t("addGrade")}
      </button>
    </fieldset>
  );
}

function nextKey(rows: readonly { key: number }[]): number {
  return 1 + Math.max(0, ...rows.map(({ key }) => key));
}

/** An empty field is no number, and the validator says that one is needed. */
function numberOf(text: string): number | null {
  return text === "" ? null : Number(text);
}

function sessionsOf(log: ActivityLog | undefined): readonly Session[] {
  const written = (log?.attendance ?? []) as { heldOn: string; present: number; expected?: number }[];
  const rows = written.map((each, key) => ({
    key,
    heldOn: each.heldOn,
    present: String(each.present),
    expected: each.expected == null ? "" : String(each.expected),
  }));
  return log ? rows : [{ key: 0, heldOn: "", present: "", expected: "" }];
}

function gradesOf(log: ActivityLog | undefined): readonly Grade[] {
  return Object.entries(log?.grading ?? {}).map(([name, status], key) => ({ key, name, status }));
}
