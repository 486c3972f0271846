"""Numbers and names as text: the one place where every report learns to write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.records import Interval, Share

NONE = "–"
WITHHELD = "withheld"
EMPTY = "none left"  # of a set without an image: nobody held out on one any more
EMULATED = "withheld (emulated)"
_LINE_END = " ⏎ "


def clean(text: object) -> str:
    """Text from outside as one printable line: line ends are shown, control and direction-changing characters replaced."""
    lines = _LINE_END.join(str(text).strip().splitlines()).replace("\t", " ")
    return "".join(character if character.isprintable() else "�" for character in lines)


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage: 0.41 -> `41.0 %`. One that is not quite all, or nothing, takes up to two digits more: 0.9997 ->
    `99.97 %`.
    """
    if share is None:
        return NONE
    text, *finer = (f"{100 * share:.{digits}f}" for digits in (1, 2, 3))
    if 0 < share < 1 and float(text) in (0, 100):
        text = next((one for one in finer if float(one) not in (0, 100)), text)
    return f"{text} %".replace("-0.0 ", "0.0 ")


def interval(bounds: Interval | None) -> str:
    """Two shares as percentages without the sign: `[35.1, 47.1]`."""
    return "" if bounds is None else f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def estimate(share: float | None, bounds: Interval | None) -> str:
    """A share with its interval: `41.0 % [35.1, 47.1]`."""
    return f"{percent(share)} {interval(bounds)}".rstrip()


def estimated(share: Share | None) -> str:
    """A counted share with its interval alone."""
    return NONE if share is None else estimate(share.accuracy, share.ci95)


def counted(share: Share | None) -> str:
    """A counted share: `41.0 % [35.1, 47.1], n = 256`."""
    return NONE if share is None else f"{estimate(share.accuracy, share.ci95)}, n = {share.n:,}"


def points(share: float | None, margin: float | None = None) -> str:
    """A difference of two shares in percentage points, with its sign: 0.012 -> `+1.2`.

    Beside a `margin` to one decimal, or to as many, up to three, as keep it on its own side of zero and of the margin: 0.0204 -> `+2.04`.
    """
    if share is None:
        return NONE
    edges = [] if margin is None else [edge for edge in (0.0, margin) if edge != share]
    digits = next((d for d in (1, 2, 3) if all(round(100 * share, d) != round(100 * edge, d) for edge in edges)), 3)
    text = f"{100 * share:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def allowed(share: float) -> str:
    """A margin in percentage points, as fine as it was asked for: 0.02 -> `2.0`, 0.0004 -> `0.04`."""
    text = f"{100 * share:.2f}"
    return text[:-1] if text.endswith("0") else text


def significant(value: float | None, finer: int = 0) -> str:
    """Three significant digits, never in exponent form: 0.4368 -> `0.437`, 1234 -> `1,230`. `finer`: so many digits more."""
    if value is None:
        return NONE
    digits = 3 + finer
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 100:
        return f"{rounded:,.{max(digits - len(str(int(abs(rounded)))), 0)}f}"
    return f"{rounded:#.{digits}g}" if abs(rounded) >= 1e-3 or rounded == 0 else f"{rounded:.{digits}g}"


def factor(value: float) -> str:
    """How many times: 1.5 -> `1.50`; below a tenth three significant digits: 0.00412 -> `0.00412`."""
    return f"{value:.2f}" if value >= 0.1 or not value else significant(value)


def milliseconds(value: float | None) -> str:
    """A duration given in milliseconds: `0.437 ms`."""
    return NONE if value is None else f"{significant(value)} ms"


def size(count: int | None, finer: int = 0) -> str:
    """Bytes for people, in powers of 1024: 2,900,000 -> `2.77 MiB`. `finer`: as of `significant`."""
    if count is None:
        return NONE
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{significant(value, finer)} {unit}"


def count(value: int | None) -> str:
    """A whole number with thousands separated."""
    return NONE if value is None else f"{value:,}"


def _short(value: float, unit: str, finer: int) -> str:
    """Two decimals at most: 0.0156 -> `1.56`."""
    text = f"{value:.{2 + finer}f}".rstrip("0").rstrip(".")
    text = "0" if text == "-0" else text
    return f"{text} {unit.removesuffix('s') if text == '1' else unit}".replace("-", "−")


# Unit of a figure in the record -> how people read it; the second argument: how many digits more than usual.
FIGURES: dict[str, Callable[[Any, int], str]] = {
    "ms": lambda value, finer: f"{significant(value, finer)} ms",
    "B": lambda value, finer: size(round(value), finer),
    "images/s": lambda value, finer: f"{significant(value, finer)} images/s",
    "mJ": lambda value, finer: f"{significant(value, finer)} mJ",
    "share": lambda value, finer: _short(100 * value, "%", finer),
    "points": lambda value, finer: _short(100 * value, "points", finer),
    "count": lambda value, _: count(round(value)),
    "names": lambda value, _: ", ".join(value) or "none",
    "truth": lambda value, _: "yes" if value else "no",
}


def figure(value: float | Sequence[str] | bool | None, unit: str, finer: int = 0) -> str:
    """A figure of the record in a unit of `FIGURES`, with so many digits more than usual; nothing known is a dash."""
    return NONE if value is None else FIGURES[unit](value, finer)


def several(number: int, noun: str) -> str:
    """How many of a thing: `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def digest(sha256: str) -> str:
    """The first twelve characters of a hash; the whole of it stands under provenance."""
    return clean(sha256)[:12]


def class_name(names: Sequence[str], label: int) -> str:
    """The name of a class, or `class 7` where the record has none."""
    return clean(names[label]) if 0 <= label < len(names) else f"class {label}"


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs, in its own order; what is not known, or empty, is left out."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            if value:
                yield clean(name), clean(", ".join(map(_plain, value)))
        elif value is not None:
            yield clean(name), size(value) if name.endswith("_bytes") and type(value) is int else clean(_plain(value))


def _plain(value: object) -> str:
    """A value as text; a float with four significant digits, a large one without decimals."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def shortened(text: str, length: int = 220) -> str:
    """The text, or as many whole words of it as fit, and an ellipsis."""
    return text if len(text) <= length else f"{text[:length].rsplit(' ', 1)[0].rstrip(' ,;:.…')} …"


def sentence(text: str) -> str:
    """The text with an end: a full stop where it has none."""
    return text if text.endswith((".", "…", "!", "?")) else f"{text}."


_DURATION = re.compile(r"\d\s*(?:ns|µs|us|ms|s|seconds?)\b|images/s|per second", re.IGNORECASE)


def speaks_of_time(text: str) -> bool:
    """Whether a sentence gives a duration or a rate; such a sentence is withheld where latency is."""
    return _DURATION.search(text) is not None
