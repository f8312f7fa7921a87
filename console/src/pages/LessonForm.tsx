/** The form of a lesson: every text of it, with the validators' words, and "write again" by part. */

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import type { LessonEdit, LessonPage } from "../api/schema";
import { Action } from "../parts/Action";
import { Field, FormProblem, type Faults, faultsOf } from "../parts/Form";
import { addEntry, changedParts, isAbsent, PARTS, partKey, partsOf, removeEntry, setValue } from "./lessonParts";
import type { Json } from "./lessonParts";

export function LessonForm({ page }: { page: LessonPage }) {
  const t = useTranslations("plans");
  const client = useQueryClient();
  const stored = partsOf(page.lesson);
  const [base, setBase] = useState(stored);
  const [draft, setDraft] = useState(stored);
  const changed = changedParts(base, draft);
  const revision = (page.lesson as { revision?: number }).revision;
  const baseRevision = useRef(revision);
  const version = JSON.stringify(stored);
  const isBehind = version !== JSON.stringify(base);
  // What was generated meanwhile is shown, unless that would take away what was typed.
  useEffect(() => {
    if (changed.length > 0) return;
    baseRevision.current = revision;
    setBase(JSON.parse(version));
    setDraft(JSON.parse(version));
  }, [version, revision, changed.length]);
  const path = { workflowId: page.workflowId, lessonId: (page.lesson as { id: string }).id };
  const save = useMutation({
    mutationFn: () =>
      ask(
        api.PATCH("/api/v3/workflow/{workflowId}/step10/lessons/{lessonId}", {
          params: { path },
          body: {
            revision: baseRevision.current,
            ...Object.fromEntries(changed.map((part) => [part, draft[part]])),
          } as unknown as LessonEdit,
        }),
      ),
    onSuccess: () => {
      setBase(draft);
      return client.invalidateQueries({ queryKey: ["plans"] });
    },
  });
  const lesson = page.lesson as {
    written: boolean;
    editedParts?: string[];
    gaps: { message: string; field?: string }[];
    openPlaces?: { field: string; asks: string }[];
  };
  const hasContent = lesson.written;
  useGoToHash(hasContent);
  if (!hasContent) return <p className="panel">{t("nothingToEdit")}</p>;
  const faults = faultsOf(save.error);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="form" onSubmit={submit} noValidate aria-label={t("edit")}>
      <h2>{t("edit")}</h2>
      {lesson.gaps.map(({ message }) => (
        <p key={message} className="warn">
          ! {message}
        </p>
      ))}
      <OpenPlaces places={lesson.openPlaces ?? []} />
      <FormProblem error={save.error} isShown={() => false} />
      <div className="buttons sticky">
        <button type="submit" className="primary" disabled={changed.length === 0 || save.isPending}>
          {t("save")}
        </button>
        <button type="button" disabled={changed.length === 0} onClick={() => setDraft(base)}>
          {t("undo")}
        </button>
        <span role="status" className={isBehind && changed.length ? "warn" : "good"}>
          {changed.length > 0
            ? t(isBehind ? "changedElsewhere" : "unsaved", { count: changed.length })
            : save.isSuccess && t("saved")}
        </span>
      </div>
      {PARTS.filter((part) => part in draft).map((part) => (
        <fieldset key={part}>
          <legend>{t(`part_${part}`)}</legend>
          {!isAbsent(draft, part) && (
            <Value
              value={draft[part] as Json}
              path={part}
              label={t(`part_${part}`)}
              faults={faults}
              change={(at, value) => setDraft(setValue(draft, at, value))}
              drop={(at) => setDraft(removeEntry(draft, at))}
            />
          )}
          <div className="buttons">
            {(Array.isArray(draft[part]) || isAbsent(draft, part)) && (
              <button type="button" onClick={() => setDraft(addEntry(draft, part))}>
                {t("add")}
              </button>
            )}
            <Action
              label={t("writeAgain")}
              subject={t(`part_${part}`)}
              question={t("writeAgainText")}
              roles={["author"]}
              disabled={changed.length > 0}
              run={() =>
                ask(
                  api.POST("/api/v3/workflow/{workflowId}/step10/lessons/{lessonId}/regenerate", {
                    params: { path, query: { section: [part], overwriteEdits: true } },
                  }),
                )
              }
            />
          </div>
        </fieldset>
      ))}
    </form>
  );
}

/** Go to the field that the address names behind `#`, once it is there. */
function useGoToHash(isThere: boolean): void {
  useEffect(() => {
    if (isThere && location.hash.length > 1) goTo(decodeURIComponent(location.hash.slice(1)));
  }, [isThere]);
}

function goTo(field: string): void {
  const input = document.querySelector<HTMLElement>(`[data-field="${CSS.escape(field)}"]`);
  input?.scrollIntoView({ block: "center" });
  input?.focus({ preventScroll: true });
}

function OpenPlaces({ places }: { places: readonly { field: string; asks: string }[] }) {
  const t = useTranslations("plans");
  if (places.length === 0) return null;
  return (
    <>
      <p>{t("openPlacesList", { count: places.length })}</p>
      <ul className="checklist">
        {places.map((place, index) => (
          <li key={`${place.field} ${index}`}>
            <span aria-hidden="true">☐</span>{" "}
            <button type="button" className="link" onClick={() => goTo(place.field)}>
              {t(partKey(place.field))}: {place.asks}
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

interface ValueProps {
  value: Json;
  /** Path in the lesson: `activities/1/title`. */
  path: string;
  label: string;
  faults: Faults;
  change: (path: string, value: Json) => void;
  drop: (path: string) => void;
}

/** The fields of a value, whatever it is made of. */
function Value({ value, path, label, faults, change, drop }: ValueProps) {
  const t = useTranslations("plans");
  const fault = faults.get(`#/${path}`);
  const word = (name: string) =>
    t.has(`field_${name}` as never) ? t(`field_${name}` as never) : name;
  if (Array.isArray(value))
    return (
      <>
        {fault && <p className="fault">✕ {fault}</p>}
        {value.map((each, index) => {
          const at = `${path}/${index}`;
          const name = `${label} ${index + 1}`;
          return (
            <div key={at} className="entry" role="group" aria-label={name}>
              <Value
                value={each}
                path={at}
                label={name}
                faults={faults}
                change={change}
                drop={drop}
              />
              <button
                type="button"
                aria-label={t("removeEntry", { name })}
                onClick={() => drop(at)}
              >
                ✕
              </button>
            </div>
          );
        })}
      </>
    );
  if (value !== null && typeof value === "object")
    return (
      <div className="group">
        {fault && <p className="fault">✕ {fault}</p>}
        {Object.entries(value).map(([name, each]) => (
          <Value
            key={name}
            value={each}
            path={`${path}/${name}`}
            label={word(name)}
            faults={faults}
            change={change}
            drop={drop}
          />
        ))}
      </div>
    );
  const isNumber = typeof value === "number";
  const text = value === null ? "" : String(value);
  return (
    <Field label={label} fault={fault} wide={!isNumber}>
      {(input) =>
        isNumber ? (
          <input
            {...input}
            data-field={path}
            type="number"
            value={text}
            onChange={(event) => change(path, Number(event.target.value))}
          />
        ) : (
          <textarea
            {...input}
            data-field={path}
            rows={Math.min(8, 1 + Math.floor(text.length / 70) + (text.match(/\n/g)?.length ?? 0))}
            value={text}
            onChange={(event) => change(path, event.target.value || (value === null ? null : ""))}
          />
        )
      }
    </Field>
  );
}
