import { useInfiniteQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { courses } from "../api/queries";
import { Choice, Filters, useFilters } from "../parts/Filters";
import { CourseLink } from "../parts/Links";
import { Page } from "../parts/Page";
import { List } from "../parts/Table";
import { Time } from "../parts/Time";

/** The catalogue. */
export function CoursesPage() {
  const t = useTranslations("courses");
  const common = useTranslations("common");
  const [search] = useFilters();
  const query = useInfiniteQuery(courses(search.archived === "true"));
  return (
    <Page title={t("title")}>
      <Filters>
        <Choice
          label={t("archive")}
          name="archived"
          none={t("open")}
          options={["true"]}
          word={() => t("archived")}
        />
      </Filters>
      <List
        query={query}
        caption={t("title")}
        empty={t("empty")}
        emptyText={t("emptyText")}
        rowKey={(each) => each.courseId}
        columns={[
          {
            title: common("name"),
            heading: true,
            cell: (each) => <CourseLink id={each.courseId} title={each.title} />,
          },
          { title: common("id"), cell: (each) => <span className="id">{each.courseId}</span> },
          { title: t("version"), number: true, cell: (each) => each.version },
          {
            title: t("chapters"),
            number: true,
            cell: (each) => `${each.requiredChapters} / ${each.totalChapters}`,
          },
          { title: t("published"), cell: (each) => <Time at={each.publishedAt} minutes /> },
        ]}
      />
    </Page>
  );
}
