"""What a rule is, and what it says when a graph breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.lint.graph import Graph


class Severity(StrEnum):
    """How bad a finding is, worst first.

    `ERROR`: the runtime refuses the file, or runs something else than it says. `WARNING`: it runs, but slower or less exactly than the
    file suggests. `INFO`: good to know.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One broken rule at one place.

    Attributes:
        rule: the rule's id, stable over versions.
        severity: see `Severity`.
        node: name of the node or tensor; empty where it concerns the whole file.
        reason: what is there, and what that does.
        remedy: what to do.
    """

    rule: str
    severity: Severity
    node: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """One line: severity, rule, node, reason, remedy."""
        place = f" {self.node}:" if self.node else ""
        return f"{self.severity:7} {self.rule}{place} {self.reason} {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        """The same as plain values, for JSON."""
        return {key: str(value) for key, value in asdict(self).items()}


Check = Callable[["Graph"], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: TRTnnn or ORTnnn; never used for another rule.
        severity: of its findings.
        title: what it asks for.
        remedy: what to do about a finding.
        check: a graph -> (node or tensor name, what is wrong there), one pair per finding.
        refused: whether the runtime itself refuses such a file. Where it does not, it takes the file and runs it in another way.
        words: parts of the runtime's messages for it, lower case.
    """

    id: str
    severity: Severity
    title: str
    remedy: str
    check: Check
    refused: bool = False
    words: tuple[str, ...] = ()

    def findings(self, graph: Graph) -> Iterator[Finding]:
        """Every place where `graph` breaks the rule."""
        for node, reason in self.check(graph):
            yield Finding(self.id, self.severity, node, reason, self.remedy)
