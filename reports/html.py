"""The report as one HTML file that asks nothing of the network: no script, styles and pictures inside, every text escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from reports.figures import figures
from reports.gallery import pictures
from reports.run import Run
from reports.sections import sections
from reports.sections.verdict import TONES, tag
from reports.title import subtitle, title

TEMPLATE = "report.html.jinja"
STYLESHEET = Path(__file__).parent / "templates" / "report.css"


def together(text: str) -> str:
    """Text in which a number is never parted from its sign or unit at the end of a line."""
    return text.replace("n = ", "n\u00a0=\u00a0").replace(" %", "\u00a0%")


def to_html(run: Run) -> str:
    """The whole report of a run."""
    record = run.record
    verdict, *others = sections(run)
    return page(
        title=title(record),
        subtitle=subtitle(record),
        tag=tag(record),
        answer=record.verdict or "NO VERDICT YET",
        tone=TONES[record.verdict] if record.verdict else "warn",
        verdict=verdict,
        sections=others,
        figures={key: [(Markup(f.svg), f.caption) for f in drawn] for key, drawn in figures(run).items()},  # noqa: S704 matplotlib escapes its texts
        pictures=pictures(run),
    )


def page(**parts: Any) -> str:
    """The template filled in: title, subtitle, tag, answer, tone, verdict (a section), sections; figures by section, and pictures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["together"] = together
    css = Markup(STYLESHEET.read_text(encoding="utf-8"))  # noqa: S704 our own file
    return environment.get_template(TEMPLATE).render({"figures": {}, "pictures": [], "css": css, **parts})
