"""Adversarial sets: stored, resumed after a kill, refused when they are another's; and models that misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from linear import linear_data, linear_model
from torch import Tensor, nn

from harness.attacks import noise as noise_module
from harness.attacks.batch import Panel
from harness.attacks.parts import load_set, read, set_digest, write
from harness.attacks.search import Search
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.data.dataset import to_tensor
from harness.errors import UntrustedError, UsageError

EPS = Fraction(8, 255)
NOISE = resolve("noise")
INDEX = np.arange(5, 85)
BATCH = 8


def run(folder: Path, seed: int = 0, model: nn.Module | None = None, survivors: np.ndarray | None = None):
    model = model or linear_model(3)
    return make_set(model, linear_data(model), INDEX, NOISE, EPS, seed, source="S0", folder=folder, batch=BATCH, survivors=survivors)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first image's seed of the batches that were really attacked."""
    seeds: list[int] = []
    real = noise_module.noise

    def counted(search: Search, *, steps: int) -> None:
        seeds.append(search.seeds[0])
        real(search, steps=steps)

    monkeypatch.setattr(noise_module, "noise", counted)
    return seeds


def test_every_image_has_a_seed_of_its_own(tmp_path: Path, calls: list[int]) -> None:
    run(tmp_path)
    assert len(set(calls)) == len(calls) == 10


def test_a_set_broken_off_goes_on_after_its_last_batch(tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, images = run(tmp_path / "whole")
    everything = list(calls)
    counted = noise_module.noise

    def breaks(*args: object, **options: object) -> None:
        if len(calls) == len(everything) + 4:
            raise KeyboardInterrupt
        counted(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(noise_module, "noise", breaks)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken")
    assert not list((tmp_path / "broken").glob("*.npz"))
    calls.clear()
    resumed, resumed_images = run(tmp_path / "broken")
    assert calls == everything[4:], "a finished batch was repeated, or a seed moved"
    assert resumed.set_sha256 == whole.set_sha256
    np.testing.assert_array_equal(resumed_images[:], images[:])
    assert resumed.model_copy(update={"file": whole.file}) == whole
    calls.clear()
    assert run(tmp_path / "broken")[0] == resumed
    assert calls == [], "a finished set was made again"


def test_a_set_killed_outright_goes_on_after_its_last_batch(tmp_path: Path, calls: list[int]) -> None:
    """A real process, a real SIGKILL."""
    script = f"""
import sys, time, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_sets
from harness.attacks import noise
real = noise.noise
def slow(*args, **options):
    time.sleep(0.2)
    return real(*args, **options)
noise.noise = slow
test_sets.run(pathlib.Path(sys.argv[1]))
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "killed").glob("*.parts/*.npz"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, "ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(list((tmp_path / "killed").glob("*.parts/*.npz")))
    assert 3 <= finished < 10
    resumed, _ = run(tmp_path / "killed")
    assert len(calls) == 10 - finished
    assert resumed.set_sha256 == run(tmp_path / "whole")[0].set_sha256


def test_a_damaged_part_is_made_again(tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda folder, **_: None)
        run(tmp_path / "again")
    (tmp_path / "again/S0-twin-noise-8-255.npz").unlink()
    (part,) = (tmp_path / "again").glob("*.parts/00002.npz")
    part.write_bytes(part.read_bytes()[:100])
    assert read(part) is None
    calls.clear()
    assert run(tmp_path / "again")[0].set_sha256 == whole.set_sha256
    assert len(calls) == 1


def test_another_set_of_the_same_name_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(UntrustedError, match="holds another set"):
        run(tmp_path, seed=1)
    with pytest.raises(UntrustedError, match="holds another set"):
        run(tmp_path, model=linear_model(3, seed=7))


def test_a_changed_or_damaged_set_is_refused(tmp_path: Path) -> None:
    record, images = run(tmp_path)
    path = tmp_path / "S0-twin-noise-8-255.npz"
    arrays = read(path)
    assert arrays is not None
    changed = images[:]
    changed[3, 0, 0, 0] ^= 1
    np.savez(path, **{**arrays, "images": changed})
    with pytest.raises(UntrustedError, match="changed since"):
        run(tmp_path)
    with pytest.raises(UntrustedError, match="changed since"):
        load_set(path, record.set_sha256)
    path.write_bytes(b"PK")
    with pytest.raises(UntrustedError, match="damaged"):
        run(tmp_path)


def test_the_median_distance_is_of_images_that_were_fooled_and_not_of_those_that_were_wrong_when_clean(tmp_path: Path) -> None:
    """A panel has all images attacked: another model may have right what this one has wrong."""
    model = linear_model(3)
    data = linear_data(model, n=60, wrong=40)
    index, panel = np.arange(60), Panel((), np.zeros((60, 0), np.bool_))
    record, images = make_set(model, data, index, resolve("fgsm"), Fraction(32, 255), 0, source="S1", folder=tmp_path, panel=panel)
    with torch.no_grad():
        clean, attacked = (model(to_tensor(one)).argmax(1).numpy() == data.labels for one in (data.images, images[:]))
    fooled = clean & ~attacked
    distances = np.sqrt(((images[:].astype(int) - data.images) ** 2.0).reshape(60, -1).sum(1)) / 255
    assert record.n_attacked == 60 and fooled.sum() >= 3
    assert record.l2_median == pytest.approx(np.median(distances[fooled]))
    none, _ = make_set(model, data, index[:40], resolve("fgsm"), EPS, 0, source="S1", folder=tmp_path, panel=Panel((), panel.fooled[:40]))
    assert none.n_attacked == 40 and none.l2_median is None, "nobody was fooled who was not wrong before"


def test_no_survivor_no_attack(tmp_path: Path, calls: list[int]) -> None:
    record, images = run(tmp_path, survivors=np.zeros(len(INDEX), dtype=bool))
    assert (calls, record.n_attacked, record.target_accuracy, record.l2_mean, record.l2_median) == ([], 0, 0.0, 0.0, None)
    np.testing.assert_array_equal(images[:], linear_data(linear_model(3)).images[INDEX])


@pytest.mark.parametrize(
    ("index", "eps", "survivors", "message"),
    [
        (np.arange(0), EPS, None, "index is empty"),
        (np.arange(4), Fraction(1, 300), None, "smaller than one level"),
        (np.arange(4), EPS, np.ones(3, dtype=bool), r"shape \(3,\); expected \(4,\)"),
    ],
)
def test_wrong_input_is_refused(index: np.ndarray, eps: Fraction, survivors: np.ndarray | None, message: str, tmp_path: Path) -> None:
    model = linear_model(3)
    with pytest.raises(UsageError, match=message):
        make_set(model, linear_data(model), index, NOISE, eps, 0, source="S0", folder=tmp_path, survivors=survivors)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        run(tmp_path / "file")


class Scaled(nn.Module):
    def __init__(self, inner: nn.Module, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) * self.scale


def test_masked_gradients_are_noticed(tmp_path: Path) -> None:
    """A saturated softmax: the cross-entropy's gradient is exactly zero, which stops PGD but not the scale-free DLR loss."""
    model = linear_model(3)
    data, index = linear_data(model), np.arange(120)
    masked = Scaled(model, 1e4)

    def accuracy(module: nn.Module, name: str, folder: str) -> tuple[float, float]:
        record, _ = make_set(module, data, index, resolve(name), EPS, 0, source="S1", folder=tmp_path / folder)
        return record.zero_gradient_share, record.target_accuracy

    assert accuracy(model, "pgd", "open")[0] == 0
    share, robust = accuracy(masked, "pgd", "masked")
    assert share > 0.95 and robust > accuracy(model, "pgd", "open")[1] + 0.2
    assert accuracy(masked, "apgd-dlr", "masked")[1] == pytest.approx(accuracy(model, "apgd-dlr", "open")[1], abs=0.02)


class Faulty(nn.Module):
    """Right on clean images, and broken in one way."""

    def __init__(self, inner: nn.Module, fault: str) -> None:
        super().__init__()
        self.inner, self.fault = inner, fault

    def forward(self, images: Tensor) -> Tensor:
        logits = self.inner(images)
        if self.fault == "nan":
            return logits * torch.nan
        if self.fault == "nan off the clean images":
            return torch.where(((images * 255 - (images * 255).round()).abs() > 0.01).any() & images.requires_grad, torch.nan, logits)
        if self.fault == "gradient":
            return logits + torch.sqrt(images[:, :1, 0, 0] * 0)
        if self.fault == "shape":
            return logits[:, 0]
        return logits[:, :2]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "logits hold NaN"),
        ("nan off the clean images", "logits hold NaN or infinity under attack"),
        ("gradient", "gradient .* holds NaN"),
        ("shape", r"output has shape \(\d+,\)"),
        ("classes", "label 2 is out of range: the model has 2 classes"),
    ],
)
def test_a_faulty_model_is_one_clear_line(fault: str, message: str, tmp_path: Path) -> None:
    model = linear_model(3)
    with pytest.raises(UsageError, match=message):
        make_set(Faulty(model, fault), linear_data(model), INDEX, resolve("pgd"), EPS, 0, source="S1", folder=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../else/where.npz"},
        {"file": ".."},
        {"n": "many"},
        {"norm": "L2"},
        {"eps_exact": "64/255"},
        {"target": "parent"},
        {"source": "S6"},
        {"seed": 7},
    ],
)
def test_a_set_whose_record_is_not_its_own_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    record, _ = run(tmp_path)
    path = tmp_path.parent / record.file
    arrays = read(path)
    assert arrays is not None
    write(path, arrays | {"record": np.array(json.dumps(record.model_dump() | change))})
    with pytest.raises(UntrustedError, match=r"says that its \w+ is|is damaged"):
        run(tmp_path)


@pytest.mark.parametrize("change", ["out of the ball", "another image", "another label", "fewer"])
def test_a_set_that_was_changed_together_with_its_hash_is_refused(change: str, tmp_path: Path) -> None:
    """Somebody who changes the images can write their hash, too: what a set must be is looked at, not only whether it is the same."""
    record, images = run(tmp_path)
    path = tmp_path.parent / record.file
    arrays = read(path)
    assert arrays is not None
    pixels, index, labels = np.array(images[:]), arrays["index"].copy(), arrays["labels"].copy()
    if change == "out of the ball":
        pixels[0] = 255 - pixels[0]
    elif change == "another image":
        index[0] = 10_000
    elif change == "another label":
        labels[0] += 1
    else:
        pixels, index, labels = pixels[1:], index[1:], labels[1:]
    changed = record.model_copy(update={"set_sha256": set_digest(pixels, index, labels)})
    write(path, arrays | {"images": pixels, "index": index, "labels": labels, "record": np.array(changed.model_dump_json())})
    with pytest.raises(UntrustedError, match=r"from the clean one|holds other images"):
        run(tmp_path)
