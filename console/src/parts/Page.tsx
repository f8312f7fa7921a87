/** The frame of a page: its title in the window and as the heading that gets the focus. */

import { useMatch } from "@tanstack/react-router";
import { type ReactNode, useEffect, useRef } from "react";
import { useTranslations } from "use-intl";

/** The path of the page that was shown last; undefined until the first page of this load. */
let shownPath: string | undefined;

/** Give the focus to the next page, whichever it is: after a sign-in, for instance. */
export function expectPage(): void {
  shownPath = "";
}

interface PageProps {
  /** Undefined while what names the page is loading. */
  title: string | undefined;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, actions, children }: PageProps) {
  const app = useTranslations("app")("title");
  const loading = useTranslations("common")("loading");
  const path = useMatch({ strict: false, select: (match) => match.pathname });
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = title ? `${title} – ${app}` : app;
  }, [title, app]);
  // The focus goes to the new page and not into nothing, once its name can be read out. A refresh
  // or a filter keeps the path, and a link to a field has its own focus.
  const isNamed = title !== undefined;
  useEffect(() => {
    if (!isNamed) return;
    const followed = shownPath !== undefined && shownPath !== path;
    shownPath = path;
    const focused = document.activeElement;
    const isFree = !focused || focused === document.body || focused.closest("nav, main, .brand");
    if (followed && isFree && !location.hash) heading.current?.focus({ preventScroll: true });
  }, [path, isNamed]);
  return (
    <>
      <header className="page">
        <h1 ref={heading} tabIndex={-1}>
          {title ?? loading}
        </h1>
        <div className="actions">{actions}</div>
      </header>
      {children}
    </>
  );
}
