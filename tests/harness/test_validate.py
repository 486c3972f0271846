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
from harness.data.load import load_data
from harness.validate import differential, int8, one_bit, precisions, saturation, tiny
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


def test_the_images_can_be_others_of_the_same_kind(run, tmp_path):
    images, target = tmp_path / "few.npz", tmp_path / "validation.md"
    few = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)[0].subset(np.arange(400))
    np.savez(images, images=few.images, labels=few.labels)
    code, out, _ = run("--only", "tiny", "--samples", "8", "--data", images, "--write", target)
    assert code == 0 and "n = 320" in out, "a fifth calibrates"
    assert f"--data {images}" in target.read_text()
    code, _, err = run("--only", "tiny", "--samples", "500", "--data", images)
    assert code == 2 and "few has 320 images" in err


def test_precisions_are_answered_for_real(run):
    code, out, _ = run("--only", "precisions", "--samples", "16")
    assert code == 0
    assert out.startswith("precisions: ") and out.count("under sets of") == 3


def test_what_was_not_run_says_how_it_is(run):
    code, out, _ = run("--only", "paper", "--samples", "16")
    assert code == 3
    assert "paper: not run" in out and "harness reproduce --samples 16 --seed 0 --data cifar10-sample --cache " in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--only", "tniy"), "Did you mean tiny"),
        (("--samples", "0"), "expected 1 to 1000"),
        (("--samples", "1001"), "expected 1 to 1000"),
        (("--seed", "-1"), "-1"),
        (("--write", "nowhere/a.md"), "there is no folder nowhere"),
        (("--write", "."), "is a folder; expected the name of a file"),
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


@pytest.mark.parametrize(
    ("n", "pgd", "auto", "others", "outcome"),
    [
        (100, 50, 50, 10, "confirmed"),
        (100, 50, 50, 50, "undecided"),
        (100, 50, 50, 49, "undecided"),
        (1000, 500, 500, 500, "refuted"),
        (1000, 500, 500, 495, "refuted"),  # above 0 by more than chance, and less than what would be something
        (1000, 550, 400, 400, "refuted"),  # Auto-PGD is stronger than Foolbox's PGD on every network
    ],
)
def test_one_bit(n, pgd, auto, others, outcome):
    left = {("FB_pgd_at", "S1"): pgd, ("apgd-ce", "S1"): auto, ("apgd-ce", "S1-T"): others, ("square", "S1"): others}
    assert one_bit.answer(Ground(evaluation=lambda _, attack, source: survives(left[attack, source], n))).outcome == outcome


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


def test_precisions_are_not_refuted_by_one_chance_in_six():
    """Seven images of one pair, none the other way: p = 1.6 %, and 9.4 % among six."""
    weak = precisions.BITS["w8a8"], precisions.BITS["w4a4"]
    ground = Ground(
        attacked=SimpleNamespace(images="clean"),
        set_against=lambda name, attack: name,
        right=lambda name, images: np.arange(100) < (53 if (name, images) == weak else 100 if images == "clean" else 60),
    )
    assert precisions.answer(ground).outcome == "undecided"


@pytest.mark.parametrize(
    ("diva", "pgd", "outcome"), [(40, 15, "confirmed"), (5, 40, "refuted"), (12, 10, "undecided"), (0, 0, "undecided")]
)
def test_differential(diva, pgd, outcome):
    def row(attack: str, count: int) -> Any:
        flips = SimpleNamespace(twin_only=count)
        return SimpleNamespace(attack=attack, eps_exact="8/255", engine=int8.FLAVOUR, n=100, flips=flips)

    rows = [row("diva-20", diva), row("pgd", pgd), row("diva-reverse-20", 70)]
    assert differential.answer(Ground(run=lambda name, **_: SimpleNamespace(transfer=rows))).outcome == outcome
    quick = [row("diva", diva), row("diva-reverse", 70), row("pgd", pgd)]  # as they are called where their steps are the usual ones
    assert differential.answer(Ground(run=lambda name, **_: SimpleNamespace(transfer=quick))).outcome == outcome
    assert differential.answer(Ground(run=lambda name, **_: SimpleNamespace(transfer=rows[1:]))).outcome == "not run"


@pytest.mark.parametrize(("correct", "outcome"), [(900, "confirmed"), (851, "undecided"), (849, "undecided"), (800, "refuted")])
def test_tiny(correct, outcome):
    engine = SimpleNamespace(clean=share(correct, 1000))
    assert tiny.answer(Ground(run=lambda name, **_: SimpleNamespace(engines=[engine]))).outcome == outcome


def logits(other: int) -> Any:
    """Of 32 images, so many with another logit."""
    found = np.zeros((32, 10), np.float32)
    found[:other] += 1
    return (found,)


FAILED = "crashed: no memory"


@pytest.mark.parametrize(
    ("plain", "precise", "rr", "outcome"),
    [
        (32, 0, 0, "confirmed"),
        (0, 0, 0, "refuted"),
        (32, 1, 0, "refuted"),
        (FAILED, 0, 0, "not run"),
        (32, FAILED, 0, "not run"),
        (32, 0, FAILED, "not run"),
    ],
)
def test_saturation(plain, precise, rr, outcome):
    """An engine that fails gives no other logits: it gives none."""
    names = ("ort-int8", "ort-int8-precise", "ort-int8-rr")
    there = {name: found if isinstance(found, str) else logits(found) for name, found in zip(names, (plain, precise, rr), strict=True)}
    here = dict.fromkeys(names, logits(0))
    for finding in (saturation._side_by_side(here, there), saturation._side_by_side(there, here)):
        assert finding.outcome == outcome
        assert (FAILED in finding.why) == (outcome == "not run")


@pytest.mark.parametrize(
    ("plain", "precise", "outcome"), [(3, 0, "confirmed"), (0, 0, "refuted"), (FAILED, 0, "not run"), (0, FAILED, "not run")]
)
def test_saturation_where_this_cpu_saturates(plain, precise, outcome):
    here = {
        name: found if isinstance(found, str) else logits(found) for name, found in (("ort-int8", plain), ("ort-int8-precise", precise))
    }
    assert saturation._alone(here).outcome == outcome
