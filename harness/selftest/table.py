"""The table fault × what caught it, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.selftest.run import Row

LONGEST = 100  # characters of what was seen

HEAD = """# Planted faults and sound deployments

Written by `harness selftest{quick} --write docs/selftest.md` on {cpu}. Each line is one file of `harness/selftest/faults` or
`harness/selftest/sound`: a small network, deployed wrongly or rightly, sent through the stages of a bench, its gates and its judge. What
must catch a fault stands in its file; *seen* are the gates that failed, the verdicts, or the error that ended the run.
On a CPU whose INT8 kernels saturate (x86 without VNNI) the gate `saturation` fails beside others, and of sound INT8 engines too.
With `--quick` an engine is not attacked itself where what must catch the fault judges clean answers, the file or the clock: its verdict is
then at best NOT REFUTED BY TRANSFER.

"""


def line(row: Row) -> str:
    """A deployment in a line."""
    return f"{_mark(row):6}  {row.name:30}  expected {row.expected}  seen {_seen(row)}"


def summary(rows: Sequence[Row]) -> str:
    """How many faults were caught and how many sound deployments passed."""
    faulty, sound = ([row for row in rows if row.faulty is kind] for kind in (True, False))
    return (
        f"{sum(row.ok for row in faulty)} of {len(faulty)} faults caught by what their files name, "
        f"{sum(row.ok for row in sound)} of {len(sound)} sound deployments passed"
    )


def markdown(rows: Sequence[Row], cpu: str, *, quick: bool) -> str:
    """The whole table, as seen on a `cpu`."""
    parts = [HEAD.format(quick=" --quick" if quick else "", cpu=cpu), f"{summary(rows)}.\n"]
    for title, kind in (("Faults", True), ("Sound deployments", False)):
        parts += [f"\n## {title}\n\n", *_lines([row for row in rows if row.faulty is kind])]
    return "".join(parts)


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    yield "| file | what is deployed | expected | seen | |\n|---|---|---|---|---|\n"
    for row in rows:
        yield f"| `{row.name}` | {row.title} | {row.expected} | {_seen(row).replace('|', '/')} | {_mark(row)} |\n"


def _seen(row: Row) -> str:
    text = ", ".join(row.observed)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _mark(row: Row) -> str:
    return "ok" if row.ok else "MISSED" if row.faulty else "FAILED"
