"""Step 1, import: a CSV row becomes a contact; mapped, checked as a whole, applied in chunks that survive a crash."""

from contacts.columns import COLUMNS, Column
from contacts.problems import Problem

__all__ = ["COLUMNS", "Column", "Problem"]
