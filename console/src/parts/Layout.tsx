/** What stands around every page: sections, language, colours, and whether the page is live. */

import { useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useTranslations } from "use-intl";
import { api, ask } from "../api/client";
import { followHints, type LiveState } from "../api/live";
import { session } from "../api/queries";
import { LANGUAGES, type Language, useLanguage } from "../messages/language";
import { useSections } from "./sections";

const POLL_MS = 15_000;

export function Layout() {
  const t = useTranslations();
  const client = useQueryClient();
  const signOut = async () => {
    const path = client.getQueryData(session.queryKey)?.signOutPath;
    await ask(api.DELETE("/api/v1/session"));
    if (path) return location.assign(path);
    await client.resetQueries();
  };
  const [isOpen, setOpen] = useState(false);
  const path = useLocation({ select: ({ pathname }) => pathname });
  useEffect(() => setOpen(false), [path]);
  return (
    <div className={isOpen ? "layout menu-open" : "layout"}>
      <a className="skip" href="#main">
        {t("app.skip")}
      </a>
      <header className="top">
        <Link to="/console" className="brand">
          {t("app.title")}
        </Link>
        <button
          type="button"
          className="menu"
          aria-expanded={isOpen}
          aria-controls="sections"
          onClick={() => setOpen(!isOpen)}
        >
          {t("app.menuButton")}
        </button>
        <div className="tools">
          <LiveSwitch />
          <ThemeChoice />
          <LanguageChoice />
          <button type="button" onClick={() => void signOut()}>
            {t("app.signOut")}
          </button>
        </div>
      </header>
      <nav id="sections" aria-label={t("app.menu")}>
        <ul>
          {useSections().map(([name, to, , group], index, all) => (
            <li
              key={name}
              className={index > 0 && all[index - 1]?.[3] !== group ? "group-start" : undefined}
            >
              <Link to={to} activeOptions={{ exact: name === "overview", includeSearch: false }}>
                {t(`nav.${name}`)}
              </Link>
            </li>
          ))}
        </ul>
      </nav>
      <main id="main" tabIndex={-1}>
        <Outlet />
      </main>
    </div>
  );
}

function LiveSwitch() {
  const t = useTranslations("live");
  const client = useQueryClient();
  const [state, setState] = useState<LiveState>("polling");
  const [stopped, setStopped] = useState(false);
  useEffect(() => {
    if (stopped) return setState("paused");
    return followHints(client, setState);
  }, [client, stopped]);
  useEffect(() => {
    const every = state === "paused" ? 0 : state === "live" ? 60_000 : POLL_MS;
    if (!every) return;
    // Hints may be lost, and figures such as rates change without one.
    const timer = setInterval(() => void client.invalidateQueries(), every);
    return () => clearInterval(timer);
  }, [client, state]);
  return (
    <span className="live">
      <span>{t(state)}</span>
      <button type="button" aria-pressed={stopped} onClick={() => setStopped(!stopped)}>
        {t(stopped ? "resume" : "pause")}
      </button>
    </span>
  );
}

const THEMES = ["system", "light", "dark"] as const;
const STORED = "homeroom.theme";

/** Set the colours that were chosen before; called before the first paint. */
export function applyStoredTheme(): void {
  document.documentElement.dataset.theme = localStorage.getItem(STORED) ?? "system";
}

function ThemeChoice() {
  const t = useTranslations("theme");
  const [theme, setTheme] = useState(document.documentElement.dataset.theme);
  const choose = (next: string) => {
    localStorage.setItem(STORED, next);
    applyStoredTheme();
    setTheme(next);
  };
  return (
    <select aria-label={t("label")} value={theme} onChange={(event) => choose(event.target.value)}>
      {THEMES.map((each) => (
        <option key={each} value={each}>
          {t(each)}
        </option>
      ))}
    </select>
  );
}

function LanguageChoice() {
  const t = useTranslations();
  const { language, choose } = useLanguage();
  return (
    <select
      aria-label={t("language")}
      value={language}
      onChange={(event) => choose(event.target.value as Language)}
    >
      {Object.entries(LANGUAGES).map(([code, messages]) => (
        <option key={code} value={code} lang={code}>
          {messages.name}
        </option>
      ))}
    </select>
  );
}
