/** The first page of a session: the overview, or the first section of its roles. */

import { Navigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { useTranslations } from "use-intl";
import { Page } from "./Page";
import { Empty } from "./Problem";
import { useSections } from "./sections";

export function Home({ overview }: { overview: ReactNode }) {
  const t = useTranslations();
  const sections = useSections();
  if (sections.some(([name]) => name === "overview")) return overview;
  if (sections[0]) return <Navigate to={sections[0][1]} replace />;
  return (
    <Page title={t("app.title")}>
      <Empty title={t("common.noSection")} text={t("common.noSectionText")} />
    </Page>
  );
}
