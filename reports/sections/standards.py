"""Which objectives of published standards and guidance the report gives evidence for. It supports a case, and certifies nothing."""

from __future__ import annotations

from reports.elements import Section, table
from reports.run import Run

INTRODUCTION = (
    "Where a reviewer may use this report. It supports a safety case and certifies nothing: whether an objective is met is for the "
    "applicant and the authority to say."
)
EASA = "EASA Concept Paper, Level 1 and 2 (issue 02)"
# Standard, objective or part, what it asks in short, where the evidence stands here, what it does not cover.
MAPPING = (
    (EASA, "LM-06", "document model optimisation and its effect", "How it was decided; Engines side by side", "the training itself"),
    (
        EASA,
        "IMP-04",
        "identify and validate every transformation after training",
        "Artefact against twin; Provenance",
        "tool qualification",
    ),
    (
        EASA,
        "IMP-06",
        "transformations have not altered the model's properties",
        "Flip matrix; Gates (clean parity, artefact parity)",
        "properties other than accuracy and robustness",
    ),
    (
        EASA,
        "IMP-07",
        "differences between training and inference platform",
        "Device; Evidence of precision; gate saturation",
        "the rest of the target system",
    ),
    (
        EASA,
        "IMP-08",
        "performance of the inference model on test data",
        "The numbers that decide; What ran",
        "whether the test data represent the operation",
    ),
    (
        EASA,
        "IMP-09",
        "stability of the inference model",
        "Robustness (noise, S0); Gates (determinism)",
        "sensor noise and other natural changes",
    ),
    (
        EASA,
        "IMP-10",
        "robustness of the inference model in adverse conditions",
        "Robustness; The cascade of attacks",
        "weather, wear, patches, anything but small changes of pixels",
    ),
    (
        "ISO/IEC TR 24029-1",
        "empirical and statistical methods",
        "assess the robustness of neural networks",
        "Robustness, with intervals",
        "formal methods",
    ),
    (
        "ISO/IEC 24029-2",
        "formal methods",
        "prove robustness in a region",
        "nothing: attacks bound robustness from above and prove nothing",
        "all of it",
    ),
    (
        "ISO/PAS 8800",
        "verification of AI elements in road vehicles",
        "evidence for an assurance argument",
        "the sheet to sign, and this evidence",
        "hazard analysis, data, operation",
    ),
    ("NIST AI 100-2", "evasion, white-box", "attacks that know the model", "sources S1 and S3", "poisoning, privacy, misuse"),
    ("NIST AI 100-2", "evasion, black-box by queries", "attacks that only ask", "source S4", "more queries than were asked"),
    ("NIST AI 100-2", "transferability", "attacks made on another model", "Each attack (transfer rates)", "other surrogates"),
)


def section(run: Run) -> Section:
    """The mapping, the same for every run."""
    del run
    columns = ("Standard", "Objective or part", "Asks for", "Evidence here", "Not covered")
    return Section("standards", "Standards", [INTRODUCTION], [table("Mapping to published standards", columns, MAPPING, fold=True)])
