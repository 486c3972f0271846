"""`harness validate`: each check's own figure beside the published one, and which outcome which figures have."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from harness import cli
from harness.audit.statistics import share
from harness.validate import differential, int8, one_bit, precisions, tiny
from harness.validate.table import CHECKS

pytestmark = pytest.mark.slow(20)
OUTCOMES = {"confirmed", "refuted", "undecided", "not comparable", "not run"}


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    def call(*words: object) -> tuple[int, str, str]:
        places = ("--out", tmp_path / "out", "--cache", tmp_path / "cache")
        monkeypatch.setattr(sys, "argv", ["harness", "validate", *map(str, (*words, *places))])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return call


def test_the_help_names_every_check():
    epilog = get_command(cli.app).commands["validate"].epilog
    assert set(re.search(r"Checks: (.*)", epilog)[1].split(", ")) == set(CHECKS)


def test_small_checks_run_for_real(run, tmp_path):
    """The INT8 ResNet-8; the file of a published table comes with it."""
    target = tmp_path / "validation.md"
    code, out, _ = run("--only", "tiny", "--samples", "8", "--json", "--write", target)
    (answer,) = json.loads(out)
    assert (code, answer["outcome"]) == (0, "undecided"), "its interval holds the target"
    assert re.search(r"8\d\.\d % \[\d\d\.\d, \d\d\.\d\], n = 1000", answer["ours"])
    assert answer["ours"] in target.read_text() and CHECKS["tiny"].source in target.read_text()
    assert run("--only", "tiny", "--samples", "8")[0] == 0, "a run that is there is taken"
    for other in (("--seed", "1"), ("--samples", "9")):
        code, out, err = run("--only", "tiny", *(("--samples", "8") if other[0] == "--seed" else ()), *other)
        assert (code, out) == (2, "") and "another run" in err, "figures of other images are not passed off as these"


def test_precisions_are_answered_for_real(run):
    code, out, _ = run("--only", "precisions", "--samples", "16")
    assert code == 0
    assert out.startswith("precisions: ") and out.count("under sets of") == 3


def test_what_was_not_run_says_how_it_is(run):
    code, out, _ = run("--only", "paper", "--samples", "16")
    assert code == 3
    assert "paper: not run" in out and "harness reproduce --samples 16 --seed 0" in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--only", "tniy"), "Did you mean tiny"),
        (("--samples", "0"), "expected 1 to 1000"),
        (("--samples", "1001"), "expected 1 to 1000"),
        (("--seed", "-1"), "-1"),
        (("--write", "nowhere/a.md"), "there is no folder nowhere"),
    ],
)
def test_wrong_usage_is_one_line(run, words, expected):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert expected in err


class Ground(SimpleNamespace):
    """What a check asks for, with figures made up."""

    samples = 100


def survives(count: int, n: int = 100) -> Any:
    return SimpleNamespace(survives=np.arange(n) < count)


@pytest.mark.parametrize(("pgd", "others", "outcome"), [(50, 10, "confirmed"), (50, 50, "undecided"), (50, 49, "undecided")])
def test_one_bit(pgd, others, outcome):
    ground = Ground(evaluation=lambda name, attack, source: survives(pgd if attack == "FB_pgd_at" else others))
    assert one_bit.answer(ground).outcome == outcome
    many = Ground(evaluation=lambda name, attack, source: survives(500, 1000))
    assert one_bit.answer(many).outcome == "refuted"


@pytest.mark.parametrize(("own", "other", "outcome"), [(10, 60, "confirmed"), (60, 10, "refuted"), (30, 31, "undecided")])
def test_precisions(own, other, outcome):
    """`own`: how many of a network's images survive its own set."""
    ground = Ground(
        attacked=SimpleNamespace(images="clean"),
        set_against=lambda name, attack: name,
        right=lambda name, images: np.arange(100) < (100 if images == "clean" else own if images == name else other),
    )
    finding = precisions.answer(ground)
    assert finding.outcome == outcome
    assert f"w8a8 under sets of w8a8 {own}.0 %, w4a4 {other}.0 %" in finding.ours


@pytest.mark.parametrize(
    ("diva", "pgd", "outcome"), [(40, 15, "confirmed"), (5, 40, "refuted"), (12, 10, "undecided"), (0, 0, "undecided")]
)
def test_differential(diva, pgd, outcome):
    def row(attack: str, count: int) -> Any:
        flips = SimpleNamespace(twin_only=count)
        return SimpleNamespace(attack=attack, eps_exact="8/255", engine=int8.FLAVOUR, n=100, flips=flips)

    rows = [row("diva-20", diva), row("pgd", pgd)]
    assert differential.answer(Ground(run=lambda name, **_: SimpleNamespace(transfer=rows))).outcome == outcome
    assert differential.answer(Ground(run=lambda name, **_: SimpleNamespace(transfer=rows[1:]))).outcome == "not run"


@pytest.mark.parametrize(("correct", "outcome"), [(900, "confirmed"), (851, "undecided"), (849, "undecided"), (800, "refuted")])
def test_tiny(correct, outcome):
    engine = SimpleNamespace(clean=share(correct, 1000))
    assert tiny.answer(Ground(run=lambda name, **_: SimpleNamespace(engines=[engine]))).outcome == outcome
