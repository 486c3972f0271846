"""Gates of engines, whose answers are held against those of kernels that saturate alike; and of calibration images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, nn

from devices.host.session import EngineId
from export.session import EXACT_INTEGERS
from harness.data.dataset import Dataset
from harness.stages.engines import Engine
from harness.stages.gates import data, engines

AVX2, VNNI = ["avx", "avx2"], ["avx", "avx2", "avx512_vnni"]
FOUND = np.eye(4, 3, dtype=np.float32)


@pytest.mark.parametrize(
    ("there", "here", "config", "transport", "asked", "passed"),
    [
        (VNNI, VNNI, {}, "local", True, False),  # exact integers on both: logits decide
        (VNNI, AVX2, {}, "ssh", True, False),
        (AVX2, AVX2, {}, "local", False, False),  # the kernels of this very CPU
        (AVX2, AVX2, {}, "ssh", False, True),  # another CPU that saturates: labels decide
        (AVX2, VNNI, {}, "ssh", None, None),
        (AVX2, VNNI, EXACT_INTEGERS, "ssh", True, False),  # told to be exact: it must be, on any CPU
    ],
)
def test_a_file_is_held_against_kernels_that_saturate_alike(monkeypatch, there, here, config, transport, asked, passed):
    found, exact = judged(monkeypatch, there, here, config, transport, 0.1)
    assert (set(exact), found) == (set() if asked is None else {asked}, passed)


@pytest.mark.parametrize(("transport", "room", "passed"), [("ssh", 0.06, True), ("ssh", 0.04, False), ("local", 0.06, False)])
def test_another_cpu_may_round_in_other_places(monkeypatch, transport, room, passed):
    """Twice as far, in the mean, as two ways to compute the file here are apart; seen on a Cortex-A72: 0.4 times (0.0067 and 0.0172)."""
    assert judged(monkeypatch, VNNI, VNNI, {}, transport, 0.1 + room)[0] is passed


def judged(
    monkeypatch: pytest.MonkeyPatch, there: list[str], here: list[str], config: dict[str, str], transport: str, unfused: float
) -> tuple[bool | None, list[bool]]:
    """Whether an engine 0.1 away from its file passes, whose unfused kernels are `unfused` away; and which kernels were asked."""
    asked: list[bool] = []

    def simulated(artefact: Any, images: Any, *, optimise: bool | None = None, exact: bool = True) -> Any:
        asked.append(exact)
        return FOUND[images[:, 0, 0, 0]] + np.float32(unfused if optimise is False else 0.1)  # other logits, the same labels

    monkeypatch.setattr(engines, "simulated_logits", simulated)
    monkeypatch.setattr(engines, "describe_machine", lambda: {"isa_flags": here})
    artefact = SimpleNamespace(path=Path("no.graph"), runtime="onnxruntime", precision="int8", session_config=config)
    exported: Any = SimpleNamespace(artefact=artefact)
    engine = Engine(EngineId("e"), "ort-int8", exported)
    subject = SimpleNamespace(
        profile=SimpleNamespace(transport=transport),
        test=Dataset("four", np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1), np.zeros(4, int)),
    )
    measured = SimpleNamespace(engine=engine, facts=SimpleNamespace(environment={"isa_flags": there}))
    return engines._file_fidelity(subject, measured, FOUND).passed, asked  # type: ignore[arg-type]


class Told(nn.Module):
    """Names the class that stands in the first pixel: red and 256 greens."""

    def forward(self, x: Tensor) -> Tensor:
        levels = (255 * x[:, :2, 0, 0]).round().long()
        return nn.functional.one_hot(levels[:, 0] + 256 * levels[:, 1], 1024).float()


def pictures(labels: NDArray[np.int64], seed: int) -> Dataset:
    """Images whose brightness follows from their class, which stands in their first pixel."""
    images = np.random.default_rng(seed).integers(0, 64, (len(labels), 4, 4, 3)) + (191 * labels / labels.max()).reshape(-1, 1, 1, 1)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = labels % 256, labels // 256
    return Dataset("told", images.astype(np.uint8), labels)


@pytest.mark.parametrize(("classes", "n"), [(10, 1000), (10, 300), (300, 1000), (1000, 5000), (1000, 1000)])
@pytest.mark.parametrize("labelled", [True, False])
def test_calibration_images_drawn_from_the_same_are_like_the_test_images(classes: int, n: int, labelled: bool) -> None:
    """Both lie in the order of their classes, as those of a folder do; of a thousand classes 256 images hold a quarter."""
    test = pictures(np.sort(np.arange(n) % classes), 0)
    calibration = pictures(np.sort(np.random.default_rng(1).integers(0, classes, 512)), 2)
    if not labelled:
        calibration = replace(calibration, labels=np.zeros(512, np.int64))
    subject = SimpleNamespace(test=test, calibration=calibration, twin=SimpleNamespace(module=Told()))
    gate = data.of_calibration(subject, test.labels)
    assert gate.passed, gate.observed


@pytest.mark.parametrize(("classes", "n"), [(10, 1000), (300, 1000), (1000, 5000)])
def test_calibration_images_of_some_classes_alone_are_not(classes: int, n: int) -> None:
    test = pictures(np.sort(np.arange(n) % classes), 0)
    some = pictures(np.sort(np.r_[np.random.default_rng(1).integers(0, classes // 5, 511), classes - 1]), 2)
    subject = SimpleNamespace(test=test, calibration=some, twin=SimpleNamespace(module=Told()))
    gate = data.of_calibration(subject, test.labels)
    assert gate.passed is False and "are those of" in gate.observed


@pytest.mark.filterwarnings("error")
def test_images_of_one_row_or_column_have_neighbours_along_the_other_alone() -> None:
    row = np.array([[0, 3, 9], [5, 5, 5]], np.uint8).reshape(2, 1, 3, 1)
    for images in (row, row.transpose(0, 2, 1, 3)):
        assert data._statistics(images)["roughness"].tolist() == [4.5, 0]
    assert data._statistics(row[:, :, :1])["roughness"].tolist() == [0, 0]
