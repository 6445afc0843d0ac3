"""Findings about a folder of data: how bad, where, what, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TextIO, get_args

from papers_shared.entries import one_line
from papers_shared.errors import UserError

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing found. Equal messages and remedies are printed together: put what differs in `source`."""

    severity: Severity
    source: str
    """The file, folder or record it concerns."""
    message: str
    remedy: str = ""


@dataclass
class Report:
    """What a check found."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, source: object, message: str, remedy: str = "") -> None:
        """Add one finding; `source` may be a path."""
        self.findings.append(Finding(severity, str(source), message, remedy))

    def extend(self, other: Report | Iterable[Finding]) -> None:
        """Add the findings of another report."""
        self.findings.extend(other.findings if isinstance(other, Report) else other)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def exit_code(self) -> int:
        """1 when there is an error, else 0: warnings do not fail a check."""
        return 1 if self.errors else 0

    def to_json(self) -> dict[str, Any]:
        """`{"errors": n, "warnings": n, "notes": n, "findings": [...]}` with every finding."""
        return {**self._counts(), "findings": [asdict(finding) for finding in self.findings]}

    def print(self, file: TextIO | None = None, *, sources: int = 5, groups: int = 20) -> None:
        """Print the findings, the worst first, grouped by message.

        Args:
            file: Where to; stdout when None.
            sources: Sources listed per message before the rest is only counted.
            groups: Messages listed per severity before the rest is only counted.
        """
        file = file or sys.stdout
        for severity in get_args(Severity):
            grouped: dict[tuple[str, str], list[str]] = {}
            for finding in self.findings:
                if finding.severity == severity:
                    grouped.setdefault((finding.message, finding.remedy), []).append(finding.source)
            for (message, remedy), where in list(grouped.items())[:groups]:
                times = f" ({len(where):,} times)" if len(where) > 1 else ""
                print(f"{severity}: {one_line(message)}{times}", file=file)
                print("".join(f"    {one_line(source)}\n" for source in where[:sources]), end="", file=file)
                if len(where) > sources:
                    print(f"    ... and {len(where) - sources:,} more", file=file)
                if remedy:
                    print(f"    -> {remedy}", file=file)
            if len(grouped) > groups:
                print(f"{severity}: ... and {len(grouped) - groups:,} more kinds", file=file)
        print(", ".join(f"{count:,} {name}" for name, count in self._counts().items()), file=file)

    def raise_if_broken(self, command: str) -> None:
        """Refuse to go on when there are errors.

        Args:
            command: The command line that shows the whole report.

        Raises:
            UserError: There is at least one error.
        """
        if self.errors:
            first = self.errors[0]
            more = f" and {len(self.errors) - 1:,} more errors" if len(self.errors) > 1 else ""
            raise UserError(f"{first.source}: {first.message}{more}; `{command}` explains all of them")

    def _counts(self) -> dict[str, int]:
        severities = [finding.severity for finding in self.findings]
        return {f"{name}s": severities.count(name) for name in get_args(Severity)}
