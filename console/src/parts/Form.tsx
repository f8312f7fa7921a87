/** Fields of forms, with the words of the API's validators at the field that they are about. */

import { type ReactNode, useEffect, useId, useRef } from "react";
import { useTranslations } from "use-intl";
import { ApiError } from "../api/client";
import { ProblemBox } from "./Problem";

/** What is wrong, by JSON pointer into the body: `#/attendance/0/heldOn`. */
export type Faults = ReadonlyMap<string, string>;

/** Return the faults of a refused request. */
export function faultsOf(error: unknown): Faults {
  const parts = error instanceof ApiError ? (error.problem.errors ?? []) : [];
  return new Map(parts.map((part) => [part.pointer ?? "", part.detail]));
}

interface FieldProps {
  label: string;
  /** The word of the validator, if it refused the value. */
  fault?: string;
  hint?: string;
  /** A long field goes over the whole width. */
  wide?: boolean;
  children: (input: {
    id: string;
    "aria-invalid": boolean | undefined;
    "aria-describedby": string | undefined;
  }) => ReactNode;
}

export function Field({ label, fault, hint, wide, children }: FieldProps) {
  const id = useId();
  const described = [fault && `${id}-fault`, hint && `${id}-hint`].filter(Boolean).join(" ");
  return (
    <div className={wide ? "field wide" : "field"}>
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        "aria-invalid": fault ? true : undefined,
        "aria-describedby": described || undefined,
      })}
      {hint && (
        <span id={`${id}-hint`} className="quiet">
          {hint}
        </span>
      )}
      {fault && (
        <span id={`${id}-fault`} className="fault">
          ✕ {fault}
        </span>
      )}
    </div>
  );
}

interface FormProblemProps {
  error: Error | null;
  /** Whether a fault is shown at its field; the others are listed here. */
  isShown: (pointer: string) => boolean;
}

/** Say that the form was refused, list what no field shows, and go to the first faulty field. */
export function FormProblem({ error, isShown }: FormProblemProps) {
  const t = useTranslations("form");
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!error) return;
    box.current?.closest("form")?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  }, [error]);
  if (!error) return null;
  const faults = [...faultsOf(error)];
  const others = faults.filter(([pointer]) => !isShown(pointer));
  return (
    <div ref={box}>
      {faults.length > 0 ? (
        <div className="problem" role="alert">
          <p>{t("faulty", { count: faults.length })}</p>
          {others.map(([pointer, detail]) => (
            <p key={pointer}>
              <code>{pointer.replace("#/", "")}</code> {detail}
            </p>
          ))}
        </div>
      ) : (
        <ProblemBox error={error} />
      )}
    </div>
  );
}
