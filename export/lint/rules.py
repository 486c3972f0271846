"""Every rule, by the runtime it is for. A new one is a function and an entry in its group's `RULES`."""

from __future__ import annotations

from pathlib import Path

from onnx import inliner

from export.checked import check_size, parse_onnx
from export.errors import ExportError
from export.lint import onnxruntime, operators, options, placement, quantization, sparse, valid, values
from export.lint.finding import Finding, Rule, Severity
from export.lint.graph import Graph
from export.lint.stored import check_external
from export.session import first_line

RULES: dict[str, tuple[Rule, ...]] = {
    "tensorrt": (
        *quantization.RULES, *placement.RULES, *sparse.RULES, *values.RULES, *operators.RULES, *options.RULES, valid.rule("TRT000")
    ),
    "onnxruntime": (*onnxruntime.RULES, valid.rule("ORT000")),
}  # fmt: skip
TARGETS = tuple(RULES)
UNNAMED = "unsupported_node: false"


def lint(path: Path, target: str, *, sparse: bool = False, exact_integers: bool = False) -> list[Finding]:
    """Check an ONNX file against the rules of one runtime. Neither loads that runtime's engine nor executes anything of the file.

    Args:
        path: the file; tensors that lie outside of it are read from its own folder only.
        target: a key of `RULES`.
        sparse: the file claims 2:4 sparse weights.
        exact_integers: the kernels that will run it cannot saturate, because of the CPU or of the session's options.

    Returns:
        findings, the worst first, else in the order of the rules and of the graph. Empty: nothing is known to be wrong.

    Raises:
        ExportError: unknown target, or the file is not a readable ONNX file.
    """
    if target not in RULES:
        raise ExportError(f"unknown target '{target}'. Choices: {', '.join(TARGETS)}.")
    graph = read(path, sparse=sparse, exact_integers=exact_integers)
    found = [finding for rule in RULES[target] for finding in rule.findings(graph)]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def read(path: Path, *, sparse: bool = False, exact_integers: bool = False) -> Graph:
    """Read a file for the rules, with its local functions inlined.

    Raises:
        ExportError: not a readable ONNX file, or one whose external tensors are not in its folder.
    """
    model = parse_onnx(path)
    check_size(model, path.name)
    check_external(model, path.parent, path.name)
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:
            raise ExportError(f"{path.name}: its local functions cannot be inlined: {first_line(error)}") from error
    graph = Graph(model, path, sparse, exact_integers)
    for text in (*graph.stored, *graph.makers, *graph.readers, *(part for node in graph.nodes for part in (node.op_type, node.domain))):
        if not isinstance(text, str):  # what protobuf gives for bytes that are no UTF-8
            raise ExportError(f"{path.name} is damaged: {text!r} is the name of a tensor or an operator; expected text")
    return graph


def rule_for(message: str) -> str | None:
    """The id of the rule that would have caught what a runtime said when it refused a file; None where no rule does."""
    words = message.strip().lower()
    words = UNNAMED if words == "false" else words  # all that NVIDIA's parser says of an operator it does not know
    for rules in RULES.values():
        for rule in rules:
            if any(part in words for part in rule.words):
                return rule.id
    return None
