/** The parts of a lesson that a person edits, as plain values (pure). */

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };
export type Parts = Record<string, Json>;

/** The parts in the order in which a lesson prints them. */
export const PARTS = [
  "title",
  "priorKnowledge",
  "keyPoints",
  "vocabulary",
  "misconceptions",
  "materials",
  "starterQuiz",
  "explanation",
  "activities",
  "checks",
  "practice",
  "exitQuiz",
  "assessments",
  "differentiation",
  "homework",
  "references",
  "notes",
] as const;
export type Part = (typeof PARTS)[number];

/** Return the key of the word for the part that a path such as `activities/1/title` is in. */
export function partKey(path: string): `part_${Part}` {
  return `part_${path.split("/")[0] as Part}`;
}

const QUESTION = { question: "", answer: "", distractors: ["", ""], feedback: null };
/** A new entry of each list of records, and the records that a lesson may lack; other lists hold
 * texts. Lists inside records stand under their own names. */
const NEW_ENTRIES: Record<string, Json> = {
  vocabulary: { term: "", definition: "" },
  misconceptions: { misconception: "", correction: "" },
  starterQuiz: QUESTION,
  checks: QUESTION,
  exitQuiz: QUESTION,
  activities: {
    phase: "practice",
    title: "",
    minutes: 10,
    method: "",
    facilitatorDoes: "",
    learnersDo: "",
    resources: [],
  },
  practice: { task: "", feedback: "" },
  explanation: { spoken: "", shown: [], examples: [] },
  differentiation: { support: "", stretch: "", accessibility: "" },
  assessments: {
    outcomeId: "",
    kind: "formative",
    bloomLevel: "understand",
    method: "",
    text: "",
    rubric: [],
    checklist: [],
    blueprint: [],
  },
  rubric: { criterion: "", steps: ["", ""] },
  blueprint: { topic: "", bloomLevel: "understand", questions: 1 },
};
const RECORDS: readonly string[] = ["explanation", "differentiation"];
const TEXTS: readonly string[] = ["title", "homework", "notes"];

/** The values that a field may have, where it is not a text of one's own. */
export const CHOICES: Readonly<Record<string, readonly string[]>> = {
  phase: ["intro", "teach", "practice", "check", "close"],
  kind: ["formative", "summative"],
  bloomLevel: ["remember", "understand", "apply", "analyze", "evaluate", "create"],
};

/** Return the editable parts of a lesson's JSON, with the lists of its records that it left out. */
export function partsOf(lesson: unknown): Parts {
  const all = lesson as Parts;
  return Object.fromEntries(
    PARTS.filter((part) => part in all).map((part) => [part, withLists(all[part] as Json, part)]),
  );
}

/** Return the parts that a lesson does not have, and that a person may add. */
export function absentParts(parts: Parts): Part[] {
  return PARTS.filter((part) => !(part in parts) && !TEXTS.includes(part));
}

function withLists(value: Json, name: string): Json {
  if (Array.isArray(value)) return value.map((each) => withLists(each, name));
  if (value === null || typeof value !== "object") return value;
  const shape = (NEW_ENTRIES[name] ?? {}) as Record<string, Json>;
  const lists = Object.entries(shape).filter(([, each]) => Array.isArray(each) && !each.length);
  return { ...value, ...Object.fromEntries(lists.map(([key]) => [key, value[key] ?? []])) };
}

/** Return the parts that differ. */
export function changedParts(base: Parts, draft: Parts): string[] {
  return PARTS.filter((part) => JSON.stringify(base[part]) !== JSON.stringify(draft[part]));
}

/** Return the parts with another value at a path such as `activities/1/title`. */
export function setValue(parts: Parts, path: string, value: Json): Parts {
  return edit(parts, path, (holder, key) => {
    (holder as Record<string, Json>)[key] = value;
  });
}

/** Return the parts without the entry of a list. */
export function removeEntry(parts: Parts, path: string): Parts {
  return edit(parts, path, (holder, key) => {
    if (Array.isArray(holder)) holder.splice(Number(key), 1);
  });
}

/** Whether a part is a record that the lesson does not have. */
export function isAbsent(parts: Parts, part: Part): boolean {
  return parts[part] === null && RECORDS.includes(part);
}

/** Return the parts with an empty entry at the end of the list at a path, or with an empty record. */
export function addEntry(parts: Parts, path: string): Parts {
  return edit(parts, path, (holder, key) => {
    const at = holder as Record<string, Json>;
    const entry = structuredClone(NEW_ENTRIES[key] ?? "");
    if (RECORDS.includes(key)) at[key] = entry;
    else at[key] = [...((at[key] as Json[] | undefined) ?? []), entry];
  });
}

/** Return the value at a path such as `activities/1/resources`. */
export function valueAt(parts: Parts, path: string): Json | undefined {
  let found: Json | undefined = parts;
  for (const key of path.split("/")) found = (found as Record<string, Json> | undefined)?.[key];
  return found;
}

function edit(parts: Parts, path: string, change: (holder: Json, key: string) => void): Parts {
  const copy = structuredClone(parts);
  const keys = path.split("/");
  const last = keys.pop() as string;
  let holder: Json = copy;
  for (const key of keys) holder = (holder as Record<string, Json>)[key] as Json;
  change(holder, last);
  return copy;
}
