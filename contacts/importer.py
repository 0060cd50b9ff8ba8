"""Step 1, import: a CSV row becomes a contact: mapped, checked as a whole, applied in chunks that survive a crash.

Nothing but the import itself changes before `apply()`. A row that is not right in every mapped cell is set aside
with the reason. Values of later rows, and of later files, win cell by cell; an empty cell changes nothing. An
opt-out is only ever added.
"""

from typing import Any

from django.db import transaction

from accounts.models import Organization, User
from audit.record import record
from contacts import mapping as mappings
from contacts.apply_file import Overtaken, apply
from contacts.check_file import Checked, WrongStatus, check, refuse
from contacts.columns import COLUMNS, Column
from contacts.mapping import BadMapping, Proposal
from contacts.models import Import
from contacts.problems import Problem
from contacts.reading import Progress, pieces
from contacts.table import Record, Refused, Shape, records, shape
from files.models import StagedFile
from phi.keys import PLATFORM

__all__ = [
    "COLUMNS",
    "BadMapping",
    "Checked",
    "Column",
    "Overtaken",
    "Problem",
    "Progress",
    "Record",
    "Refused",
    "WrongStatus",
    "apply",
    "check",
    "map",
    "start",
]

Status = Import.Status


def start(
    organization: Organization,
    file: StagedFile,
    *,
    source: str = "",
    options: dict[str, Any] | None = None,
    by: User | str,
) -> Import:
    """Begin an import of a staged file and return it, with a mapping proposed by the names of its columns.

    `source`: where record numbers come from, e.g. "ehr"; together they are who a person is. `options`: what columns
    of higher apps need, e.g. {"form_version": id, "evidence": text}. Raises Refused when no table can be read from
    the file; the import stays, refused.
    """
    if file.organization_id != organization.pk:
        raise Refused("file_gone", "There is no such file.")
    import_ = Import(
        organization=organization,
        file=file,
        source=source.strip()[:40],
        options=options or {},
        created_by_id=getattr(by, "pk", PLATFORM),
    )
    with transaction.atomic():
        import_.save()
        record("import.uploaded", organization_id=organization.pk, by=by, target=import_)
    try:
        found = shape(pieces(import_, by=by))
    except Refused as error:
        refuse(import_, error, by=by)
        raise
    import_.encoding, import_.separator = found.encoding, found.separator
    import_.mapping = dict.fromkeys(found.header)
    _save(import_, _proposal(import_, by))
    return import_


def map(
    import_: Import, columns: dict[str, str | None] | None = None, *, by: User | str
) -> dict[str, str | None]:
    """Save which column of the file is which field, and return it: {header: field key, or None to leave it out}.

    `columns`: None takes what the names of the columns propose. Sends a checked import back to be checked again.
    Raises BadMapping, WrongStatus once it is being applied.
    """
    if import_.status not in (Status.NEW, Status.CHECKED):
        raise WrongStatus("wrong_status", f"The import is {import_.status}; it cannot be mapped.")
    proposal = _proposal(import_, by)
    if columns is not None:
        proposal = mappings.checked(import_.organization, import_.mapping, proposal, columns)
    with transaction.atomic():
        if import_.status == Status.CHECKED:
            import_.move_to(Status.NEW)
        _save(import_, proposal)
    return import_.mapping


def _proposal(import_: Import, by: User | str) -> Proposal:
    header = tuple(import_.mapping)
    read = Shape(import_.encoding, import_.separator, header)
    # The file is opened only if there is a column that nobody knows.
    rows = records(pieces(import_, by=by), read)
    return mappings.propose(import_.organization, header, rows)


def _save(import_: Import, proposal: Proposal) -> None:
    import_.mapping, import_.new_fields = proposal.columns, proposal.new_fields
    import_.save(update_fields=["encoding", "separator", "mapping", "new_fields"])
