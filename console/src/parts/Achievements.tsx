/** What a learner has achieved by rules about several courses, and what is next. */

import { useQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { achievementsOf } from "../api/queries";
import type { AchievementPage } from "../api/schema";
import { Percent } from "./Percent";
import { Empty, Loading, ProblemBox } from "./Problem";
import { Table } from "./Table";
import { Time } from "./Time";

interface Row {
  id: string;
  title: string;
  percent: number;
  courses: string;
  achievedAt: string | null;
  url: string | null;
}

const rowsOf = ({ awarded, next }: AchievementPage): Row[] => [
  ...awarded.map((each) => ({
    id: each.ruleId,
    title: each.title,
    percent: 100,
    courses: "",
    achievedAt: each.achievedAt,
    url: each.credential?.url ?? null,
  })),
  ...next.map((each) => ({
    id: each.ruleId,
    title: each.title,
    percent: (each.done / each.required) * 100,
    courses: `${each.done} / ${each.required}`,
    achievedAt: null,
    url: null,
  })),
];

export function Achievements({ userId }: { userId: string }) {
  const t = useTranslations();
  const found = useQuery(achievementsOf(userId));
  if (found.isPending) return <Loading />;
  if (found.isError && !found.data)
    return <ProblemBox error={found.error} onAgain={() => void found.refetch()} />;
  const rows = rowsOf(found.data);
  if (rows.length === 0) return <Empty title={t("learner.noAchievements")} />;
  return (
    <Table
      caption={t("learner.achievements")}
      rows={rows}
      rowKey={(each) => each.id}
      columns={[
        { title: t("learner.achievement"), heading: true, cell: (each) => each.title },
        {
          title: t("courses.progress"),
          cell: (each) => <Percent value={each.percent} label={each.title} />,
        },
        { title: t("learner.courses"), number: true, cell: (each) => each.courses },
        { title: t("learner.achieved"), cell: (each) => <Time at={each.achievedAt} /> },
        {
          title: t("learner.credential"),
          cell: (each) => each.url && <a href={each.url}>{t("learner.credential")}</a>,
        },
      ]}
    />
  );
}
