/** The frame of a page: its title in the window and as the heading that gets the focus. */

import { type ReactNode, useEffect, useRef } from "react";
import { useTranslations } from "use-intl";

interface PageProps {
  title: string;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, actions, children }: PageProps) {
  const app = useTranslations("app")("title");
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} – ${app}`;
  }, [title, app]);
  // After a link was followed, readers go on at the new page and not in the middle of the old one.
  useEffect(() => {
    if (document.activeElement?.closest("nav, main")) heading.current?.focus();
  }, []);
  return (
    <>
      <header className="page">
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        <div className="actions">{actions}</div>
      </header>
      {children}
    </>
  );
}
