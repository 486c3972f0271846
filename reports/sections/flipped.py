"""Single images on which twin and engine part: the evidence a reader can see."""

from __future__ import annotations

from reports.elements import Section, table
from reports.flips import chosen
from reports.format import class_name, several
from reports.run import Run


def section(run: Run) -> Section:
    """The chosen flips as rows; the HTML report adds the images."""
    flips, total = chosen(run)
    names = run.record.data.class_names
    if not total:
        what = "No image flipped: " if run.record.transfer else "Nothing was attacked: "
        return Section(
            "flipped",
            "Images that flipped",
            [what + "there is none on which twin and engine, both right when clean, part under an attack."],
        )
    paragraphs = [
        "Both models have these images right when clean; on the same adversarial bytes one of them is fooled and the other is not. "
        f"{several(total, 'such replay')} in all; {several(len(flips), 'image')} shown, each once: those that fool the engine before "
        "those that fool the twin, the widest difference of margins first."
    ]
    rows = [
        (
            str(flip.index),
            f"{flip.source} · {flip.attack} · {run.radius(flip.source, flip.attack, flip.eps)}",
            class_name(names, flip.label),
            class_name(names, flip.twin_prediction),
            "; ".join(f"{engine}: {class_name(names, said)}" for engine, said in flip.answers.items()),
        )
        for flip in flips
    ]
    return Section(
        "flipped",
        "Images that flipped",
        paragraphs,
        [table("Flipped images", ("Image", "Attack", "Label", "Twin says", "Engines say"), rows)],
    )
