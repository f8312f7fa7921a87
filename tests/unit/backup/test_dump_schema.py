"""The statements of a dump: only what ``pg_dump`` writes for Homeroom's tables is accepted."""

from __future__ import annotations

import pytest

from homeroom.backup.dump_schema import DumpedSchema, dump_faults, split_statements

TABLE = """\
-- a comment
CREATE TABLE public.course (
    id text NOT NULL COLLATE pg_catalog."C",
    version integer DEFAULT 0 NOT NULL
);


CREATE INDEX ix_course_id ON public.course USING btree (id, version DESC) WHERE (id = 'a'::text);
COPY public.course (id, version) FROM stdin;
"""
EXPECTED = DumpedSchema({"course": {"id": None, "version": "0"}}, frozenset({"ix_course_id"}))


def faults(script: str, expected: DumpedSchema | None = EXPECTED) -> list[str]:
    return dump_faults(split_statements(script.splitlines(keepends=True)), expected)


def test_the_expected_schema_has_no_fault() -> None:
    assert faults(TABLE) == []


@pytest.mark.parametrize(
    "statement",
    [
        "\\! touch /tmp/x",
        "\\copy course FROM PROGRAM 'id'",
        "COPY public.course (id) FROM PROGRAM 'id'; COPY public.course (id) FROM stdin;",
        "SET standard_conforming_strings = off;",
        "SET session_preload_libraries = 'x';",
        "SELECT evil();",
        "SELECT pg_catalog.set_config('search_path', 'public', false);",
        "CREATE FUNCTION public.f() RETURNS void LANGUAGE sql AS $$ SELECT 1; $$;",
        "CREATE TRIGGER t AFTER INSERT ON public.course EXECUTE FUNCTION f();",
        "CREATE TABLE public.more (\n    id text DEFAULT evil()\n);",
        "CREATE TABLE public.more (\n    id text,\n    CONSTRAINT c CHECK (evil())\n);",
        "CREATE TABLE public.more (\n    id text\n)\nINHERITS (public.course);",
        "CREATE INDEX i ON public.course USING btree (evil(id));",
        "CREATE INDEX i ON public.course USING btree (id) WHERE (evil (id));",
        "CREATE INDEX i ON public.course USING btree (id) WHERE (id OPERATOR(public.=) 'a');",
        "COMMENT ON TABLE public.alembic_version IS 'x'; SELECT evil(); --';",
        "ALTER TABLE ONLY public.course ALTER COLUMN id SET DEFAULT evil();",
        "SELECT evil()",
    ],
)
def test_any_other_statement_is_a_fault(statement: str) -> None:
    for expected in (EXPECTED, None):
        [fault, *_] = faults(TABLE + statement + "\n", expected)
        assert statement.split("\n")[0].split(";")[0] in fault


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("DEFAULT 0 ", "DEFAULT 1 "),
        ("DEFAULT 0 ", ""),
        ("    id text", "    more text"),
        ("ix_course_id", "ix_other"),
        ("public.course (\n", "public.courses (\n"),
    ],
)
def test_a_difference_is_a_fault(before: str, after: str) -> None:
    assert faults(TABLE.replace(before, after)) != []
