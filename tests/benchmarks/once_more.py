"""A control for the transfer study: how many images more a run's twin loses to the same attacks, made once more. Not a pytest test.

S3 attacks an engine's graph from where S1 ended and from new random starts. What it wins is the engine's own only beyond what as much
effort wins on the twin.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.answers import TWIN, Column
from harness.attacks.access import Access
from harness.attacks.sets import make_set
from harness.audit.metrics import Right
from harness.models.predictions import logits
from harness.records import RunRecord
from harness.settings import stored_settings
from harness.stages.attack import best_iterates
from harness.stages.subject import load_subject
from reports.run import Run


def once_more(folder: Path, record: RunRecord, first: list[Column], left: Right, eps: Fraction) -> Right:
    """Attack the twin of the run in `folder` with its gradient attacks again, as S3 attacks a graph: a quarter of the steps from where the
    sets `first` ended, then whole from a random start of another seed.

    Args:
        left: bool (n,), the attacked images on which the twin held out.

    Returns:
        bool (n,): it holds out still.
    """
    settings = stored_settings(record.settings, folder)
    subject, matrix, right = load_subject(settings), Run.open(folder).matrix, left.copy()
    for attack in subject.attacks:
        if attack.access is not Access.GRADIENT or not right.any():
            continue
        index = matrix.index[right]
        with TemporaryDirectory() as scratch:
            _, images = make_set(
                subject.twin.module, subject.test, index, attack.again(2), eps, settings.seed + 1, source="S1", folder=Path(scratch),
                first=best_iterates(matrix, TWIN, first, index, subject.test, folder),
            )  # fmt: skip
            right[right] = logits(subject.twin.module, images[:]).argmax(1) == subject.test.labels[index]
    return right
