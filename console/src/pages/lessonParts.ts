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
/** A new entry of each list of records, and the two records; other lists hold texts. */
const NEW_ENTRIES: Partial<Record<Part, Json>> = {
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
  assessments: { outcomeId: "", kind: "formative", bloomLevel: "understand", method: "", text: "" },
};

/** Return the editable parts of a lesson's JSON. */
export function partsOf(lesson: unknown): Parts {
  const all = lesson as Parts;
  return Object.fromEntries(PARTS.filter((part) => part in all).map((part) => [part, all[part] as Json]));
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
  return parts[part] === null && part in NEW_ENTRIES;
}

/** Return the parts with an empty entry at the end of a list, or with an empty record. */
export function addEntry(parts: Parts, part: Part): Parts {
  return edit(parts, part, (holder) => {
    const entries = (holder as Parts)[part];
    const entry = structuredClone(NEW_ENTRIES[part] ?? "");
    if (Array.isArray(entries)) entries.push(entry);
    else (holder as Parts)[part] = entry;
  });
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
