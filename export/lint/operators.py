"""Operators that TensorRT's parser does not know, and options of known ones that it does not take."""

from __future__ import annotations

from collections.abc import Iterator

from export.checked import STANDARD_DOMAINS
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph, label
from export.lint.trt_operators import AFTER_JETPACK6, ELSEWHERE, KNOWN


def unknown(graph: Graph) -> Iterator[tuple[str, str]]:
    """Operators without an importer."""
    for node in graph.nodes:
        if node.op_type not in KNOWN:
            domain = "" if node.domain in STANDARD_DOMAINS else f"{node.domain}::"
            yield label(node), f"TensorRT does not know the operator {domain}{node.op_type}."


def elsewhere(graph: Graph) -> Iterator[tuple[str, str]]:
    """Operators that need what not every TensorRT has."""
    for node in graph.of_type(*ELSEWHERE):
        yield label(node), f"{node.op_type} needs {ELSEWHERE[node.op_type]}."


def foreign(graph: Graph) -> Iterator[tuple[str, str]]:
    """Operators of other domains that share their name with a standard one: the parser does not look at the domain."""
    for node in graph.nodes:
        if node.domain not in STANDARD_DOMAINS and node.op_type in KNOWN:
            yield label(node), f"{node.domain}::{node.op_type} is read as the standard {node.op_type}, whatever it means there."


def newer(graph: Graph) -> Iterator[tuple[str, str]]:
    """Operators that TensorRT 10.3 does not know."""
    for node in graph.of_type(*AFTER_JETPACK6):
        yield label(node), f"{node.op_type} came after TensorRT 10.3, the one of JetPack 6."


REPLACE = "Write it with standard operators of opset 20, or leave it out of the exported network."

RULES = (
    Rule(
        "TRT050", Severity.ERROR, "operators are known", REPLACE, unknown, refused=True,
        words=("plugin not found, are", "unsupported_node: false", "no importer registered", "unsupported operator"),
    ),
    Rule(
        "TRT051", Severity.ERROR, "every TensorRT has the operators", REPLACE, elsewhere, refused=True,
        words=(
            "plugin was not found", "plugin creator version", "failed to load", "has no runners that implement it",
            "attention operation was not supported",
        ),
    ),
    Rule("TRT052", Severity.WARNING, "operators are standard", REPLACE, foreign),
    Rule("TRT053", Severity.WARNING, "operators are those of TensorRT 10.3", REPLACE, newer),
)  # fmt: skip
