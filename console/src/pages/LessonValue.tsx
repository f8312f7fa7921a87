/** The fields of a value of a lesson, whatever it is made of, and buttons that grow its lists. */

import { useTranslations } from "use-intl";
import { Field, type Faults } from "../parts/Form";
import { CHOICES, type Json } from "./lessonParts";

export interface Outcome {
  id: string;
  text: string;
}

/** What all fields of a form share. */
export interface LessonFields {
  faults: Faults;
  /** The outcomes of the lesson, which assessments and questions name. */
  outcomes: readonly Outcome[];
  change: (path: string, value: Json) => void;
  add: (path: string) => void;
  drop: (path: string) => void;
}

interface ValueProps extends LessonFields {
  value: Json;
  /** Path in the lesson: `activities/1/title`. */
  path: string;
  label: string;
}

export function LessonValue(props: ValueProps) {
  const { value } = props;
  if (Array.isArray(value)) return <Entries {...props} value={value} />;
  if (value !== null && typeof value === "object") return <Record {...props} value={value} />;
  return <Single {...props} value={value} />;
}

function Fault({ text }: { text: string | undefined }) {
  return text ? <p className="fault">✕ {text}</p> : null;
}

/** A list with a button at each entry, and one that adds; a part's own stands beside "write again". */
function Entries({ value, path, label, ...fields }: ValueProps & { value: readonly Json[] }) {
  const t = useTranslations("plans");
  const isNested = path.includes("/");
  const entries = value.map((each, index) => {
    const at = `${path}/${index}`;
    const name = `${label} ${index + 1}`;
    return (
      <div key={at} className="entry" role="group" aria-label={name}>
        <LessonValue {...fields} value={each} path={at} label={name} />
        <button
          type="button"
          aria-label={t("removeEntry", { name })}
          onClick={() => fields.drop(at)}
        >
          ✕
        </button>
      </div>
    );
  });
  if (!isNested)
    return (
      <>
        <Fault text={fields.faults.get(`#/${path}`)} />
        {entries}
      </>
    );
  return (
    <div className="nested" role="group" aria-label={label}>
      <Fault text={fields.faults.get(`#/${path}`)} />
      {entries}
      <AddButton path={path} label={t("addNamed", { name: label })} add={fields.add} />
    </div>
  );
}

interface AddButtonProps {
  path: string;
  label: string;
  add: (path: string) => void;
}

export function AddButton({ path, label, add }: AddButtonProps) {
  return (
    <button type="button" data-add={path} onClick={() => add(path)}>
      {label}
    </button>
  );
}

function Record({
  value,
  path,
  label: _,
  ...fields
}: ValueProps & { value: { [name: string]: Json } }) {
  const t = useTranslations("plans");
  const word = (name: string) =>
    t.has(`field_${name}` as never) ? t(`field_${name}` as never) : name;
  return (
    <div className="group">
      <Fault text={fields.faults.get(`#/${path}`)} />
      {Object.entries(value).map(([name, each]) => (
        <LessonValue key={name} {...fields} value={each} path={`${path}/${name}`} label={word(name)} />
      ))}
    </div>
  );
}

interface SingleProps extends ValueProps {
  value: string | number | boolean | null;
}

function Single({ value, path, label, faults, outcomes, change }: SingleProps) {
  const options = useOptions(path.split("/").at(-1) as string, outcomes);
  const isNumber = typeof value === "number";
  const text = value === null ? "" : String(value);
  return (
    <Field label={label} fault={faults.get(`#/${path}`)} wide={!isNumber && !options}>
      {(input) =>
        options ? (
          <select
            {...input}
            data-field={path}
            value={text}
            onChange={(event) => change(path, event.target.value || (value === null ? null : ""))}
          >
            {!options.some(([option]) => option === text) && <option value={text}>{text}</option>}
            {options.map(([option, word]) => (
              <option key={option} value={option}>
                {word}
              </option>
            ))}
          </select>
        ) : isNumber ? (
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

/** Return the values that a field may have, each with its word; undefined where any text will do. */
function useOptions(name: string, outcomes: readonly Outcome[]) {
  const t = useTranslations("plans");
  if (name === "outcomeId") return outcomes.map(({ id, text }) => [id, text] as const);
  return CHOICES[name]?.map((each) => [each, t(`choice_${each}` as "choice_intro")] as const);
}
