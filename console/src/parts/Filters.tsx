/** Filters of a list; they stand in the URL, so that a link shows the same list. */

import { useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, useEffect, useId, useState } from "react";
import { useTranslations } from "use-intl";

type Search = Record<string, string | undefined>;

/** Return the filters of the URL and a function that changes some of them. */
export function useFilters(): [Search, (change: Search) => void] {
  const search = useSearch({ strict: false }) as Search;
  const navigate = useNavigate();
  const change = (next: Search) =>
    void navigate({
      to: ".",
      search: Object.fromEntries(
        Object.entries({ ...search, ...next }).filter(([, value]) => value),
      ) as never,
      replace: true,
      resetScroll: false,
    });
  return [search, change];
}

export function Filters({ children }: { children: ReactNode }) {
  const t = useTranslations("common");
  const [search, change] = useFilters();
  const used = Object.keys(search).length > 0;
  return (
    <form role="search" aria-label={t("filter")} className="filters" onSubmit={(e) => e.preventDefault()}>
      {children}
      {used && (
        <button
          type="button"
          onClick={() =>
            change(Object.fromEntries(Object.keys(search).map((key) => [key, undefined])))
          }
        >
          {t("clear")}
        </button>
      )}
    </form>
  );
}

interface ChoiceProps {
  label: string;
  name: string;
  options: readonly string[];
  word?: (option: string) => string;
  /** The word for no choice. */
  none?: string;
}

/** A filter with a few values, and "all". */
export function Choice({ label, name, options, word = (option) => option, none }: ChoiceProps) {
  const t = useTranslations("common");
  const [search, change] = useFilters();
  const id = useId();
  return (
    <div>
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        value={search[name] ?? ""}
        onChange={(event) => change({ [name]: event.target.value })}
      >
        <option value="">{none ?? t("all")}</option>
        {options.map((option) => (
          <option key={option} value={option}>
            {word(option)}
          </option>
        ))}
      </select>
    </div>
  );
}

const TYPING_MS = 300;

/** A filter by text, asked for when typing rests. */
export function TextFilter({ label, name }: { label: string; name: string }) {
  const [search, change] = useFilters();
  const [text, setText] = useState(search[name] ?? "");
  const id = useId();
  useEffect(() => setText(search[name] ?? ""), [search[name]]);
  useEffect(() => {
    if (text === (search[name] ?? "")) return;
    const timer = setTimeout(() => change({ [name]: text.trim() }), TYPING_MS);
    return () => clearTimeout(timer);
  });
  return (
    <div className="wide">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="search"
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </div>
  );
}
