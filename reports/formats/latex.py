"""The tables of a paper as LaTeX (`booktabs`): the claims, and the engines with their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.records import RunRecord
from reports.compare import median
from reports.format import NONE, WITHHELD, clean, estimated, points, size
from reports.outcomes import attacks_of, none_left
from reports.run import Run
from reports.sections.verdict import caveat
from reports.title import title

if TYPE_CHECKING:
    import pandas as pd

PREAMBLE = "% needs \\usepackage{booktabs}; written by harness report --format latex\n"
# What LaTeX's own fonts lack, in its own words.
SYMBOLS = {"−": "$-$", "–": "--", "ε": "$\\varepsilon$", "�": "?", "⏎": "/"}


def to_latex(run: Run) -> str:
    """Two `table` environments, `tab:claims` and `tab:engines`; both say n, the tier and the device. Text from outside is escaped."""
    record = run.record
    attacked, clean_images = (_where(record, n) for n in (record.data.n, record.data.n_clean))
    worst = (
        "Right on the clean image and under every attack of the claim's sources; bounds of the gap are one-sided 95 % (Tango), in points."
    )
    idle = dict.fromkeys(name for claim in record.claims for name in attacks_of(record, claim)[1])
    caption = " ".join(filter(None, (f"Robustness on the engine: {attacked}. {worst}", none_left(list(idle)))))
    return "\n".join(
        [
            PREAMBLE,
            _table(_claims(record), caption, "tab:claims"),
            _table(_engines(record), f"Cost of the engines: {clean_images}. Intervals are 95 % Wilson.", "tab:engines"),
        ]
    )


def _where(record: RunRecord, n: int) -> str:
    """What a table is of, without a full stop: the run, and the images that its figures are over."""
    where = f"{title(record)}, n = {n:,}, tier {record.tier}, seed {record.seed}."
    return " ".join(filter(None, (where, caveat(record)))).removesuffix(".")


def _claims(record: RunRecord) -> list[dict[str, str]]:
    return [
        {
            "Engine": claim.engine,
            "ε": claim.eps_exact,
            "Twin": estimated(claim.twin_robust),
            "Engine, robust": estimated(claim.engine_robust),
            "Gap": points(claim.gap, claim.margin),
            "Bounds": NONE if claim.lower is None else f"[{points(claim.lower, claim.margin)}, {points(claim.upper, claim.margin)}]",
            "n": f"{claim.n:,}",
            "Verdict": str(claim.verdict),
        }
        for claim in record.claims
    ]


def _engines(record: RunRecord) -> list[dict[str, str]]:
    batches = sorted({batch for engine in record.engines for batch in engine.latency}, key=int)
    return [
        {
            "Engine": engine.name,
            "Precision": engine.precision_evidence.label if engine.precision_evidence else NONE,
            "Clean": estimated(engine.clean),
            **{f"p50, batch {batch}": median(record, engine, batch) for batch in batches},
            "Peak memory": WITHHELD if record.device.emulated else size(engine.memory.peak_bytes),
            "File": size(engine.memory.artefact_bytes),
        }
        for engine in record.engines
    ]


def _table(rows: list[dict[str, str]], caption: str, label: str) -> str:
    import pandas as pd

    if not rows:
        return f"% {clean(caption)}: nothing to show\n"
    frame: pd.DataFrame = pd.DataFrame(rows).rename(columns=_escaped).map(_escaped)
    return frame.style.hide(axis="index").to_latex(
        column_format="l" * len(frame.columns), hrules=True, position="t", caption=_escaped(caption), label=label
    )


def _escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    escaped = "".join(_ESCAPES.get(character, character) for character in clean(text))
    return escaped if escaped.isascii() else escaped.encode("ascii", "replace").decode()


_ESCAPES = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    **SYMBOLS,
}
