"""The report as one HTML file that asks nothing of the network: no script, styles and pictures inside, every text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from reports.elements import Section
from reports.figures import figures
from reports.gallery import Picture, pictures
from reports.glossary import parts
from reports.run import Run
from reports.sections import glossary, sections
from reports.sections.verdict import TONES, answer
from reports.title import head

TEMPLATE = "report.html.jinja"
STYLESHEET = Path(__file__).parent / "templates" / "report.css"


def together(text: str) -> str:
    """Text in which a number is never parted from its sign or unit at the end of a line."""
    return text.replace("n = ", "n\u00a0=\u00a0").replace(" %", "\u00a0%")


def linked() -> Callable[[str], Markup]:
    """A function that links each word of the glossary to it, at its first place among the texts it is given; its meaning shows on hover."""
    seen: set[str] = set()

    def mark(text: str) -> Markup:
        pieces = (
            escape(together(piece))
            if term is None
            else Markup('<a class="term" href="#{}" title="{}">{}</a>').format(term.anchor, term.meaning, piece)
            for piece, term in parts(text, seen)
        )
        return Markup("").join(pieces)

    return mark


def to_html(run: Run) -> str:
    """The whole report of a run."""
    record = run.record
    drawn = figures(run)
    none: list[Picture] = []
    shown = run.attempt("flipped images", lambda: pictures(run), none)
    title, subtitle, tag = head(run)
    verdict, *others = sections(run)
    return page(
        title=title,
        subtitle=subtitle,
        tag=tag,
        answer=answer(run),
        tone=TONES[record.verdict] if record.verdict else "bad" if run.lost else "warn",
        verdict=verdict,
        sections=others,
        figures={key: [(Markup(f.svg), f.caption, f.fold) for f in own] for key, own in drawn.items()},  # noqa: S704 matplotlib escapes its texts
        pictures=shown,
    )


def page(*, verdict: Section, sections: Sequence[Section], **parts: Any) -> str:
    """The template filled in: title, subtitle, tag, answer, tone, verdict, sections; figures by section, and pictures.

    Every page has the glossary: its last section, where the sections do not have it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    css = Markup("\n" + STYLESHEET.read_text(encoding="utf-8"))  # noqa: S704 our own file
    css_hash = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    sheet, evidence = ([one for one in sections if one.sheet is on_sheet] for on_sheet in (True, False))
    if not any(one.key == "glossary" for one in evidence):
        evidence.append(glossary.section())
    given = {
        "figures": {},
        "pictures": [],
        "css": css,
        "css_hash": css_hash,
        "marker": linked,
        "verdict": verdict,
        "sheet": sheet,
        "evidence": evidence,
    }
    return environment.get_template(TEMPLATE).render({**given, **parts})
