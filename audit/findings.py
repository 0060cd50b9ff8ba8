"""What verification can find, each with a code and a sentence, and the list that gathers it."""

from dataclasses import dataclass, field

#: Code → what it means. The order is that of a report.
MEANINGS = {
    "log.truncated": "The heads outside the database tell of blocks that the database no longer has.",
    "head.missing": "There are blocks, but no heads outside the database.",
    "head.behind": "Blocks were sealed whose heads were not written outside the database in time.",
    "head.altered": "A head outside the database was altered: its signature does not fit.",
    "head.unreadable": "A line among the heads outside the database cannot be read.",
    "block.missing": "A block is missing.",
    "block.replaced": "A block is not the one that the head outside the database tells of.",
    "block.unlinked": "A block does not continue the one before it.",
    "block.unsigned": "A block's signature does not fit its header.",
    "block.untrusted": "A block is signed with a key that is not trusted.",
    "block.altered": "A block's entries, or their order, are not those that were sealed.",
    "entry.altered": "A sealed entry was altered.",
    "entry.deleted": "A sealed entry is gone.",
    "entry.inserted": "An entry was put in behind the seals: it belongs to no block, yet is older than the last one.",
    "entry.backdated": "An entry's time lies well before the block that seals it could have begun.",
    "entry.unsealed": "An entry has waited too long to be sealed.",
    "fact.altered": "A row that an entry vouches for was altered.",
    "fact.deleted": "A row that an entry vouches for is gone.",
    "fact.uncovered": "A row is there that no entry vouches for.",
    "fact.relisted": "The list of rows that an entry vouches for is not the one it was sealed with.",
    "fact.undeclared": "An entry vouches for rows of a model that this version does not know.",
    "guard.missing": "A table lacks the trigger that keeps its rows as they are.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a code of `MEANINGS`, where (ids and numbers), and a sentence for people."""

    code: str
    where: str

    @property
    def sentence(self) -> str:
        """What it means."""
        return MEANINGS[self.code]


@dataclass(slots=True)
class Findings:
    """Gathers findings; lists at most `limit` of each code, and counts all."""

    limit: int = 100
    listed: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, code: str, where: str, times: int = 1) -> None:
        """Note a finding; a line that stands for several `times` is always listed."""
        seen = self.counts[code] = self.counts.get(code, 0) + times
        if times > 1 or seen <= self.limit:
            self.listed.append(Finding(code, where))

    def ordered(self) -> list[Finding]:
        """Return the listed findings, the gravest kind first."""
        order = list(MEANINGS)
        return sorted(self.listed, key=lambda finding: order.index(finding.code))
