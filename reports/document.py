"""What a report is made of: sections of tables and findings; PDF, CSV and JSON are all made from these.

A number is in one place, so that it is the same on paper, in a spreadsheet and for a machine.
"""

import datetime as dt
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from files import sheet
from reports.small_cells import Cell

#: What stands in a table: a number as it may be shown, a text, a moment, or nothing.
Value = Cell | str | dt.datetime | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name for machines, its head, whether it holds numbers, and of which unit."""

    code: str
    head: str
    is_number: bool = True
    unit: str = ""

    @property
    def long_head(self) -> str:
        """The head with its unit, where no text beside the number says it."""
        return f"{self.head} ({self.unit})" if self.unit else self.head


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. `share`: the length of its bar from 0 to 1; None for a bar that is hidden."""

    code: str
    label: str
    values: tuple[Value, ...]
    citation: str = ""
    share: float | None = 0.0
    #: "stop" for a line that should not be there, "total" for the last.
    tone: str = ""

    @property
    def percent(self) -> int:
        """The length of its bar in percent of the longest."""
        return round(100 * (self.share or 0))


@dataclass(frozen=True, slots=True)
class Table:
    """A table, with a head unless `first_head` is empty. `bars`: "accent" or "hold" draws each row's share; "" draws none."""

    code: str
    caption: str
    first_head: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    bars: str = ""
    note: str = ""
    #: What to say when there is no row.
    nothing: str = "None in this period."

    @property
    def lines(self) -> list[tuple[Row, list[tuple[Column, Value]]]]:
        """Each row with its values beside their columns."""
        return [(row, list(zip(self.columns, row.values, strict=True))) for row in self.rows]

    @property
    def has_citations(self) -> bool:
        """Whether a row cites the law."""
        return any(row.citation for row in self.rows)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be; a report without any says so."""

    code: str
    sentence: str
    citation: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One question and what answers it. `citation`: the law that asks for it."""

    code: str
    title: str
    question: str
    citation: str
    lead: str
    tables: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()
    #: How the numbers came about, for the notes at the end.
    method: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report. `head`: what it is about, name and value, in plain words."""

    schema: str
    title: str
    organization: str
    subtitle: str
    made_at: dt.datetime
    made_by: str
    time_zone: str
    head: dict[str, Any]
    summary: str
    sections: tuple[Section, ...]
    notes: tuple[tuple[str, str], ...] = field(default=())

    @property
    def findings(self) -> list[Finding]:
        """Everything that should not be, in the order of the sections."""
        return [finding for section in self.sections for finding in section.findings]

    def section(self, code: str) -> Section:
        """Return one section; raises KeyError."""
        return {section.code: section for section in self.sections}[code]


#: The columns of every CSV: one tidy table.
CSV_COLUMNS = ("section", "item", "value", "citation")


def as_csv(document: Document) -> bytes:
    """Return the report as one tidy table: section, item, value, citation; formulas neutralised."""
    return b"".join(sheet.write(_lines(document), CSV_COLUMNS))


def _lines(document: Document) -> Iterator[tuple[str, str, object, str]]:
    for name, value in document.head.items():
        yield "report", name, value, ""
    yield "report", "made_at", document.made_at.isoformat(), ""
    yield "report", "made_by", document.made_by, ""
    yield "report", "findings", len(document.findings), ""
    for section in document.sections:
        for finding in section.findings:
            yield section.code, f"finding: {finding.code}", finding.sentence, finding.citation
        for table in section.tables:
            for row in table.rows:
                citation = row.citation or section.citation
                for column, value in zip(table.columns, row.values, strict=True):
                    heads = [table.caption, row.label]
                    if len(table.columns) > 1:
                        heads.append(column.long_head)
                    yield section.code, ": ".join(heads), _plain(value), citation


def _plain(value: Value) -> object:
    if isinstance(value, Cell):
        return value.text if value.value is None else value.value
    return value.isoformat() if isinstance(value, dt.datetime) else value


def as_json(document: Document) -> bytes:
    """Return the report for machines; `schema` changes when a name or a meaning does (docs/reports.md).

    A hidden number is null, and its column's name is in the row's `hidden`.
    """
    tree = {
        "schema": document.schema,
        **document.head,
        "made_at": document.made_at,
        "made_by": document.made_by,
        "findings": [_finding(finding) for finding in document.findings],
        "sections": {section.code: _section(section) for section in document.sections},
    }
    return json.dumps(tree, indent=1, ensure_ascii=False, default=_simple).encode() + b"\n"


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "sentence": finding.sentence,
        "citation": finding.citation,
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "citation": section.citation,
        "findings": [finding.code for finding in section.findings],
        "tables": {
            table.code: [_row(table, row) for row in table.rows] for table in section.tables
        },
    }


def _row(table: Table, row: Row) -> dict[str, Any]:
    cells = dict(zip((column.code for column in table.columns), row.values, strict=True))
    return {
        "code": row.code,
        "label": row.label,
        **{
            code: value.value if isinstance(value, Cell) else value for code, value in cells.items()
        },
        "hidden": [
            code for code, value in cells.items() if isinstance(value, Cell) and value.is_hidden
        ],
    }


def _simple(value: object) -> str:
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"No JSON for {type(value).__name__}.")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; one that was there is replaced."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
