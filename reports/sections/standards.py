"""Which parts of published standards and guidance the report gives evidence for. It supports a case, and certifies nothing.

Numbers of clauses are those of the editions that are named. Sources: EASA Concept Paper, guidance for Level 1 & 2 machine learning
applications, Issue 02 (2024); Regulation (EU) 2024/1689; NIST AI 100-1 and AI 100-2; of the ISO and IEC documents the contents and
scopes that are public.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.records import RunRecord
from reports.elements import Section, table
from reports.run import Run

INTRODUCTION = (
    "Where a reviewer may use this report. It supports a safety case and claims no conformity: whether an objective is met is for the "
    "applicant and the authority to say. What a run did not make stands as such."
)
NOTHING = "nothing: not part of this run"
EASA = "EASA Concept Paper, Level 1 & 2 (Issue 02)"
ACT = "EU AI Act, Regulation (EU) 2024/1689"
RMF = "NIST AI RMF 1.0 (AI 100-1)"
NIST = "NIST AI 100-2 (2025)"


@dataclass(frozen=True)
class Row:
    """One part of a standard.

    Attributes:
        standard, part: what it is called there.
        asks: for what, in short.
        shown: where in this report a run shows something of it.
        lacks: what no run shows.
        made: whether a run made that.
    """

    standard: str
    part: str
    asks: str
    shown: str
    lacks: str
    made: Callable[[RunRecord], bool] = lambda record: bool(record.engines)


def _of(*sources: str) -> Callable[[RunRecord], bool]:
    return lambda record: any(attack.source in sources for attack in record.attacks)


def _attacked(record: RunRecord) -> bool:
    return bool(record.claims) and bool(record.attacks)


def _driven(record: RunRecord) -> bool:
    return any(engine.loadgen is not None for engine in record.engines)


def _always(record: RunRecord) -> bool:
    del record
    return True


MAPPING = (
    Row(
        EASA,
        "LM-06",
        "document any optimisation of the model that may affect its behaviour, and its effect",
        "How it was decided; Engines side by side",
        "the training itself",
    ),
    Row(
        EASA,
        "IMP-04",
        "identify and validate every transformation after training, and what is needed to make it",
        "Artefact against twin; Provenance",
        "qualification of the tools",
    ),
    Row(
        EASA,
        "IMP-06",
        "no transformation has adversely altered the model's defined properties",
        "Flip matrix; Gates and warnings (clean parity, artefact parity)",
        "properties other than accuracy and robustness",
    ),
    Row(
        EASA,
        "IMP-07",
        "identify and assess the differences between the platforms of training and of inference",
        "Device; Evidence of precision, and options; Gates and warnings (saturation)",
        "the rest of the target system",
    ),
    Row(
        EASA,
        "IMP-08",
        "evaluate the performance of the inference model on the test data",
        "The numbers that decide; What ran",
        "whether the test data represent the operation",
    ),
    Row(
        EASA,
        "IMP-09",
        "verify the stability of the inference model",
        "Robustness (noise, S0); Gates and warnings (determinism)",
        "sensor noise and other natural changes",
        _of("S0"),
    ),
    Row(
        EASA,
        "IMP-10",
        "verify the robustness of the inference model in adverse conditions",
        "Robustness; The cascade of attacks",
        "weather, wear, patches, anything but small changes of pixels",
        _attacked,
    ),
    Row(
        ACT,
        "Article 15(3)",
        "declare the levels of accuracy and their metrics in the instructions for use",
        "The numbers that decide",
        "whether these levels are appropriate, and whether the system is one of high risk",
    ),
    Row(
        ACT,
        "Article 15(5)",
        "where appropriate, measures against inputs made to cause a mistake (adversarial examples, model evasion)",
        "Robustness; The cascade of attacks",
        "poisoning of data or models, confidentiality, the system around the model",
        _attacked,
    ),
    Row(
        RMF,
        "MEASURE 2.5",
        "show that the system is valid and reliable, and document how far that generalises",
        "The numbers that decide; What was not measured",
        "other images than those of this run",
    ),
    Row(
        RMF,
        "MEASURE 2.7",
        "evaluate and document security and resilience",
        "Robustness; Gates and warnings",
        "risks of the deployment, which its MAP function names; operation",
        _attacked,
    ),
    Row(
        NIST,
        "2.2.1 white-box evasion",
        "attacks that know the model",
        "Robustness (sources S1 and S3)",
        "gradients of the engine itself, which has none; poisoning, privacy, misuse",
        _of("S1", "S3"),
    ),
    Row(
        NIST,
        "2.2.2 black-box evasion",
        "attacks that only ask",
        "Robustness (source S4)",
        "more queries than were asked",
        _of("S4"),
    ),
    Row(
        NIST,
        "2.2.3 transferability",
        "attacks made on another model",
        "Each attack (transfer rates)",
        "other surrogates than the twin and its graphs",
        _of("S1", "S2", "S3", "S6", "S7"),
    ),
    Row(
        "ISO/IEC TR 24029-1:2021",
        "overview of statistical, formal and empirical methods",
        "assess the robustness of neural networks",
        "Robustness (with intervals)",
        "formal methods; changes of other kinds",
        _attacked,
    ),
    Row(
        "ISO/IEC 24029-2:2023",
        "methodology for the use of formal methods",
        "prove properties such as stability over a domain",
        "nothing: attacks bound robustness from above and prove nothing",
        "all of it",
        _always,
    ),
    Row(
        "ISO/IEC TS 4213:2022",
        "6.2.3 accuracy",
        "measure the performance of classification",
        "What ran (accuracy, n, 95 % interval)",
        "confusion matrix, precision, recall and F1, class by class",
    ),
    Row(
        "ISO/PAS 8800:2024",
        "verification and validation of AI systems in road vehicles",
        "evidence for a safety assurance argument",
        "the sheet to sign, and the evidence behind it",
        "hazard analysis, data, operation",
        _attacked,
    ),
    Row(
        "MLPerf Inference",
        "LoadGen, SingleStream or Offline",
        "time the engine by the benchmark's own load generator",
        "MLPerf LoadGen",
        "a submission: its models, data, durations and review",
        _driven,
    ),
)


def section(run: Run) -> Section:
    """The mapping; of what a run did not make, no evidence."""
    record = run.record
    columns = ("Standard", "Objective or part", "Asks for", "Shown here", "Not shown")
    rows = [(row.standard, row.part, row.asks, row.shown if row.made(record) else NOTHING, row.lacks) for row in MAPPING]
    return Section("standards", "Standards", [INTRODUCTION], [table("Mapping to published standards", columns, rows, fold=True)])
