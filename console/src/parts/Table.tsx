/** Tables: keyed rows, so that a refresh leaves focus and selection where they are. */

import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useTranslations } from "use-intl";
import { Empty, Loading, ProblemBox } from "./Problem";

export interface Column<T> {
  title: string;
  /** What a cell shows. */
  cell: (row: T) => ReactNode;
  /** Numbers stand at the right. */
  number?: boolean;
  /** Sentences get room. */
  text?: boolean;
  /** The row's heading for screen readers: one column of each table. */
  heading?: boolean;
}

interface TableProps<T> {
  caption: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
}

const kind = ({ number, text }: Column<never>) =>
  number ? "number" : text ? "text" : undefined;

export function Table<T>({ caption, columns, rows, rowKey }: TableProps<T>) {
  return (
    // A wide table scrolls inside its own box, also by keyboard.
    <div className="scroll cards-if-narrow" tabIndex={0} role="region" aria-label={caption}>
      {/* The roles are those of the elements, which lose them as cards of a narrow screen. */}
      <table role="table">
        <caption className="sr">{caption}</caption>
        <thead role="rowgroup">
          <tr role="row">
            {columns.map((column) => (
              <th key={column.title} role="columnheader" scope="col" className={kind(column)}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row) => (
            <tr key={rowKey(row)} role="row">
              {columns.map((column) =>
                column.heading ? (
                  <th key={column.title} role="rowheader" scope="row">
                    {column.cell(row)}
                  </th>
                ) : (
                  <td
                    key={column.title}
                    role="cell"
                    data-label={column.title}
                    className={kind(column)}
                  >
                    {column.cell(row)}
                  </td>
                ),
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

type Pages<T> = UseInfiniteQueryResult<InfiniteData<{ items: T[]; nextCursor?: string | null }>>;

interface ListProps<T> extends Omit<TableProps<T>, "rows"> {
  query: Pages<T>;
  empty: string;
  emptyText?: ReactNode;
}

/** A list that is read page by page. */
export function List<T>({ query, empty, emptyText, ...table }: ListProps<T>) {
  const t = useTranslations("common");
  if (query.isPending) return <Loading />;
  if (query.isError && !query.data)
    return <ProblemBox error={query.error} onAgain={() => void query.refetch()} />;
  const rows = itemsOf(query);
  return (
    <>
      {query.isError && <ProblemBox error={query.error} />}
      {rows.length === 0 ? (
        <Empty title={empty} text={emptyText} />
      ) : (
        <Table rows={rows} {...table} />
      )}
      {query.hasNextPage && (
        <button
          type="button"
          className="more"
          disabled={query.isFetchingNextPage}
          onClick={() => void query.fetchNextPage()}
        >
          {t("more")}
        </button>
      )}
    </>
  );
}

/** Return the rows of all pages that were read. */
export function itemsOf<T>(query: Pages<T>): T[] {
  return query.data?.pages.flatMap((page) => page.items) ?? [];
}
