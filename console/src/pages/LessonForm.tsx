/** The form of a lesson: every text of it, with the validators' words, and "write again" by part. */

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import type { LessonEdit, LessonPage } from "../api/schema";
import { Action } from "../parts/Action";
import { FormProblem, faultsOf } from "../parts/Form";
import {
  absentParts,
  addEntry,
  changedParts,
  isAbsent,
  type Json,
  PARTS,
  partKey,
  partsOf,
  removeEntry,
  setValue,
  valueAt,
} from "./lessonParts";
import { AddButton, LessonValue, type Outcome } from "./LessonValue";

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
  const lesson = page.lesson as unknown as {
    written: boolean;
    outcomes?: Outcome[];
    editedParts?: string[];
    gaps: { message: string; field?: string }[];
    openPlaces?: { field: string; asks: string }[];
  };
  const hasContent = lesson.written;
  useGoToHash(hasContent);
  const focusLater = useFocusLater(draft);
  if (!hasContent) return <p className="panel">{t("nothingToEdit")}</p>;
  const faults = faultsOf(save.error);
  const add = (at: string) => {
    const next = addEntry(draft, at);
    const list = valueAt(next, at);
    focusLater(Array.isArray(list) ? `${at}/${list.length - 1}` : at);
    setDraft(next);
  };
  const drop = (at: string) => {
    const [list, index] = [at.slice(0, at.lastIndexOf("/")), Number(at.split("/").at(-1))];
    focusLater(index > 0 ? `${list}/${index - 1}` : list);
    setDraft(removeEntry(draft, at));
  };
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
      {(lesson.openPlaces?.length || lesson.gaps.length) > 0 && (
        <Action
          label={t("fill")}
          question={t("fillText")}
          roles={["author"]}
          disabled={changed.length > 0}
          run={() =>
            ask(
              api.POST("/api/v3/workflow/{workflowId}/step10/lessons/{lessonId}/regenerate", {
                params: { path, query: { fill: true } },
              }),
            )
          }
        />
      )}
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
            <LessonValue
              value={draft[part] as Json}
              path={part}
              label={t(`part_${part}`)}
              faults={faults}
              outcomes={lesson.outcomes ?? []}
              change={(at, value) => setDraft(setValue(draft, at, value))}
              add={add}
              drop={drop}
            />
          )}
          <div className="buttons">
            {(Array.isArray(draft[part]) || isAbsent(draft, part)) && (
              <AddButton path={part} label={t("add")} add={add} />
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
      <div className="buttons" role="group" aria-label={t("moreParts")}>
        {absentParts(draft).map((part) => (
          <AddButton
            key={part}
            path={part}
            label={t("addNamed", { name: t(`part_${part}`) })}
            add={add}
          />
        ))}
      </div>
    </form>
  );
}

/** Return a function that gives the focus to a field, or to a list's button, once it is there. */
function useFocusLater(draft: unknown): (path: string) => void {
  const wanted = useRef<string>(undefined);
  useEffect(() => {
    if (wanted.current === undefined) return;
    const at = CSS.escape(wanted.current);
    const [field, inside, button] = [
      `[data-field="${at}"]`,
      `[data-field^="${at}/"]`,
      `[data-add="${at}"]`,
    ].map((each) => document.querySelector<HTMLElement>(each));
    (field ?? inside ?? button)?.focus();
    wanted.current = undefined;
  }, [draft]);
  return (path) => {
    wanted.current = path;
  };
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
