"""State of metrics that need one row per sample."""

from __future__ import annotations

from typing import Generic, TypeVar

from papers_shared.errors import UserError

Row = TypeVar("Row")


class SampleRows(Generic[Row]):
    """One row per sample id, so that every sample counts once on any number of ranks.

    `rows` is plain data: gather it from all ranks and `merge`.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def merge(self, other: SampleRows[Row]) -> None:
        """Take the rows of `other` whose ids are new; of an id that both hold, the own row stays."""
        self.rows = {**other.rows, **self.rows}

    def add_row(self, sample_id: str, row: Row) -> None:
        """Add one row.

        Raises:
            UserError: The id has a row already, so ids are not unique or a sample was evaluated twice.
        """
        if sample_id in self.rows:
            raise UserError(
                f"the sample {sample_id!r} was counted already: every sample needs an id of its own"
            )
        self.rows[sample_id] = row

    def ordered(self) -> list[Row]:
        """All rows in the order of their ids, so that sums do not depend on the ranks.

        Raises:
            UserError: There is none.
        """
        if not self.rows:
            raise UserError("no sample was counted, so there is no score")
        return [self.rows[key] for key in sorted(self.rows)]
