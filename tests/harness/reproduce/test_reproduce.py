"""`harness reproduce` in miniature: real networks, four images, every attack; the second run attacks nothing."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import cli
from harness.attacks.table import resolve
from harness.compression.compress import compress
from harness.compression.request import Request
from harness.data.load import load_data
from harness.errors import UsageError
from harness.models.load import load_twin
from harness.models.shipped import WEIGHTS
from harness.records import AttackRecord
from harness.reproduce.claims import Attacked
from harness.reproduce.evaluate import TEMPERED, Bench, Evaluation, Loaded, Tempered, digits
from harness.reproduce.measure import engines
from harness.reproduce.networks import Network, networks
from harness.reproduce.record import ReproduceRecord
from harness.reproduce.run import ReproduceOptions, Reproduction, failed, in_words, our_row, recommended, reproduce, unsound
from harness.sweep.cache import Cache
from reports.reproduce import COLUMNS, EXTRA, our_cells, render_reproduction
from reports.reproduce_terminal import print_reproduction

pytestmark = pytest.mark.slow(30)

RECIPE = """
description = "one epoch"
[common]
objective = "standard"
batch = 20
holdout = 20
epochs = 1
lr = 0.001
[train]
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parent, its one-bit form and its INT8 form, with cards."""
    place = tmp_path_factory.mktemp("networks")
    test, calibration = load_data("cifar10-sample", input_shape=None, classes=None, seed=0)
    np.savez(place / "train.npz", images=calibration.images[:60], labels=calibration.labels[:60])
    np.savez(place / "test.npz", images=test.images[:6], labels=test.labels[:6])
    (place / "tiny.toml").write_text(RECIPE)
    for suffix in (".safetensors", ".json"):
        shutil.copy(WEIGHTS / f"resnet8{suffix}", place / f"parent{suffix}")
    card = json.loads((place / "parent.json").read_text())
    card["recipe"]["objective"] = "n-fgsm"  # it stands in for a robust parent here
    (place / "parent.json").write_text(json.dumps(card))
    common = {"model": "resnet8", "data": str(place / "train.npz"), "test": str(place / "test.npz")}
    compress(Request(method="lowbit", rate="w1a1", recipe=str(place / "tiny.toml"), **common), place / "one-bit.safetensors")
    compress(Request(method="ptq-int8", **common), place / "int8.safetensors")
    return place


@pytest.fixture(scope="module")
def options(folder: Path) -> ReproduceOptions:
    return ReproduceOptions(samples=4, data=str(folder / "test.npz"), folders=(folder,))


@pytest.fixture(scope="module")
def done(options: ReproduceOptions, tmp_path_factory: pytest.TempPathFactory) -> tuple[ReproduceRecord, Cache]:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return reproduce(options, cache, ["harness", "reproduce"]), cache


def test_rows_others_and_missing_ones(done: tuple[ReproduceRecord, Cache]) -> None:
    record, _ = done
    ours = {row.name: [one.network for one in row.ours] for row in record.rows if row.ours}
    assert ours == {"RAP pre": ["parent"], "w1a1": ["one-bit"]}
    assert [one.network for one in record.others] == ["int8"]
    assert sum(row.missing is not None for row in record.rows) == len(record.rows) - 2
    parent = record.rows[0].ours[0]
    (one_bit,) = next(row for row in record.rows if row.name == "w1a1").ours
    for one in (parent, one_bit, *record.others):
        assert one.robust.keys() == {"FB_pgd_at", "apgd-ce", "apgd-dlr", "apgd-ce T", "square"}, "all must face the same attacks"
    assert parent.clean.n == 4
    assert all(parent.worst.correct <= share.correct <= parent.clean.correct for share in parent.robust.values())
    assert one_bit.gamma is not None and one_bit.gamma["weight_bits"] > 4
    assert (parent.nonzero, parent.parent_nonzero, parent.gamma) == (parent.parameters, None, None)
    assert one_bit.parent_nonzero == parent.nonzero
    assert {row.name: row.parameters for row in record.rows if row.parameters} == {
        "HYDRA 90x": 1_222_839, "HYDRA 95x": 611_419, "HYDRA 99x": 122_283,
    }  # fmt: skip
    assert [front.axis for front in record.fronts] == ["size"]
    assert [claim.answer for claim in record.claims[:2]] == ["UNDECIDED", "UNDECIDED"]


@pytest.mark.parametrize("network", [one for one in networks([WEIGHTS]) if one.method], ids=lambda one: one.name)
def test_gamma_is_the_ratio_of_the_two_counts_that_stand_beside_it(network: Network) -> None:
    """Eq. 14, within a row of the report."""
    right = np.ones(4, dtype=bool)
    attack = AttackRecord.model_construct(norm="Linf", zero_gradient_share=0.0, n_attacked=4, undone_by_rounding=0)
    evaluation = Evaluation.model_construct(clean=digits(right), right=digits(right), attack=attack, l2=None)
    shown = our_row(Attacked(network, right), dict.fromkeys((*COLUMNS, *EXTRA, "cw-l2"), evaluation))
    *_, parent, own, gamma, _, _ = our_cells(shown)
    assert f"{int(parent.replace(',', '')) / int(own.replace(',', '')):.2f}" == gamma


def gate_case(white: str, queries: str, share: float = 0.0) -> dict[str, Evaluation]:
    """A network under one attack that follows gradients, and under queries: one digit per image."""
    return {
        name: Evaluation.model_construct(
            clean="1" * len(right),
            right=right,
            attack=AttackRecord.model_construct(
                norm="Linf", zero_gradient_share=zero, n_attacked=len(right), undone_by_rounding=20 * (name == "square")
            ),
        )
        for name, right, zero in (("apgd-ce", white, share), ("square", queries, 1.0))
    }


@pytest.mark.parametrize(
    ("white", "queries", "share", "gate"),
    [
        (40, 40, 0.0, None),
        (40, 60, 0.0, None),
        (40, 39, 0.0, None),
        (40, 38, 0.0, None),
        (40, 30, 0.0, "query attack: 40.0% of 100 images right under the white-box attacks, 30.0%"),
        (40, 40, 0.2, "zero gradient: "),
    ],
)
def test_gates_of_an_evaluation(white: int, queries: int, share: float, gate: str | None) -> None:
    """A query attack that wins beyond chance more than a point over those that follow gradients, or gradients of zero: a bound."""
    known = gate_case("1" * white + "0" * (100 - white), "1" * queries + "0" * (100 - queries), share)
    assert in_words(failed(known)[-1]).startswith("rounding: "), "it is told, and guards nothing"
    found = unsound(known)
    assert found is None if gate is None else found is not None and found.startswith(gate)


def test_a_network_that_fails_a_gate_is_no_candidate(folder: Path) -> None:
    known = [Attacked(one, np.ones(4, dtype=bool), "masked" if one.name == "one-bit" else None) for one in networks([folder])]
    (front,) = recommended(known, [], "8/255")
    assert {point.name for point in front.points} == {"parent", "int8"}


def test_a_second_run_attacks_nothing(
    options: ReproduceOptions, done: tuple[ReproduceRecord, Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, cache = done

    def stop(*_: object) -> None:
        raise AssertionError("an attack was made again")

    monkeypatch.setattr("harness.reproduce.evaluate.make_set", stop)
    again = reproduce(options, cache, ["harness", "reproduce"])
    assert again.model_copy(update={"created": record.created}) == record


def test_a_kept_evaluation_that_is_damaged_is_made_again(options: ReproduceOptions, done: tuple[ReproduceRecord, Cache]) -> None:
    """Cut off, empty, gone, or of other images: none of it is an answer, or an end."""
    work = Reproduction(options, done[1])
    network, attack = work.networks[0], resolve("FB_pgd_at")
    file = done[1].place("evaluations", work.bench.key(network, attack, "S1")) / "evaluation.json"
    whole = file.read_text()
    kept = Evaluation.model_validate_json(whole)
    shorter = kept.model_copy(update={"right": kept.right[:-1]}).model_dump_json()
    other = kept.model_copy(update={"right": "x" * len(kept.right)}).model_dump_json()
    for text in ("", whole[: len(whole) // 2], shorter, other, None):
        file.unlink() if text is None else file.write_text(text)
        assert work.bench.known(network, attack) is None
    shape = work.bench.data.images.shape
    again = work.bench.evaluate(Loaded(network, (shape[3], shape[1], shape[2])), attack)
    assert again == work.bench.known(network, attack) == kept


def test_engines_are_measured_once_and_join_the_recommendation(
    options: ReproduceOptions, done: tuple[ReproduceRecord, Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cache = done
    work = Reproduction(replace(options, device="null"), cache)
    parent = [network for network in work.networks if network.name == "parent"]
    asked = (parent, work.options, ("FB_pgd_at", "apgd-ce"), "8/255", cache)
    measured = engines(*asked)
    assert [(row.label, engine.flavour) for row in measured for engine in row.engines] == [("parent", "onnx-fp32"), ("parent", "ort-int8")]
    assert all(engine.latency_ms and engine.memory_bytes and engine.robust for row in measured for engine in row.engines)
    found = work.record([], measured).fronts
    assert [front.axis for front in found] == ["size", "latency", "memory"]
    assert {point.name: point.robust for point in found[1].points} == {f"parent, {e.flavour}": e.robust for e in measured[0].engines}
    monkeypatch.setattr("harness.sweep.tasks.bench", lambda *_: pytest.fail("it was measured again"))
    assert engines(*asked) == measured


def test_two_networks_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(folder / f"parent{suffix}", tmp_path / "one" / f"net{suffix}")
        shutil.copy(folder / f"int8{suffix}", tmp_path / "other" / f"net{suffix}")
    one, other = networks([tmp_path / "one", tmp_path / "other"])
    assert (one.name, other.name) == ("net", f"net ({other.sha256[:8]})")


def test_more_images_are_another_evaluation(options: ReproduceOptions, done: tuple[ReproduceRecord, Cache]) -> None:
    _, cache = done
    more = ReproduceOptions(samples=5, data=options.data, folders=options.folders)
    work = Reproduction(more, cache)
    assert all(not work.known(network) for network in work.networks)
    assert all(Reproduction(options, cache).known(network) for network in work.networks)


def test_a_temperature_changes_the_gradient_and_not_who_is_right(folder: Path, tmp_path: Path) -> None:
    (network,) = (one for one in networks([folder]) if one.name == "one-bit")
    data, _ = load_data(str(folder / "test.npz"), input_shape=None, classes=None, seed=0)
    bench = Bench(data, np.arange(len(data)), Fraction(8, 255), 0, Cache(tmp_path))
    subject = Loaded(network, (3, 32, 32))
    found = bench.evaluate(subject, resolve("fgsm"), TEMPERED)
    assert found.temperature is not None and found.temperature == subject.temperature(data.images, data.labels) > 0
    plain = bench.evaluate(subject, resolve("fgsm"))
    assert found.clean == plain.clean and found.attack.source == "S1-T" and plain.temperature is None
    x = torch.rand(3, 3, 32, 32)
    module = load_twin(str(network.file), arch=network.arch).module
    assert torch.equal(Tempered(module, 4.0)(x) * 4, module(x))
    assert Evaluation.model_validate_json(found.model_dump_json()) == found


def test_reports_say_what_the_record_says(done: tuple[ReproduceRecord, Cache], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, _ = done
    record.save(tmp_path)
    assert ReproduceRecord.model_validate_json((tmp_path / "reproduce.json").read_bytes()) == record
    html, text, _ = (path.read_text() for path in render_reproduction(record, tmp_path))
    print_reproduction(record)
    out = capsys.readouterr().out
    for words in ("RSLAD → MobileNetV2", "one-bit", "HYDRA 99x", "w1a1 is the most robust", "UNDECIDED"):
        assert words in html and words in text and words in out
    assert "57.14" in out and f"95 % intervals, n = {record.samples}" in out
    for words in ("57.14", "Images without a gradient", "harness compress resnet18x16-at --method hydra --rate 0.99", "Tango"):
        assert words in html.replace("\u00a0", " ") and words in text
    assert html.count('<svg class="plot"') == len(record.fronts) == 1
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--samples", "0"), "expected 1 to 1000"),
        (("--samples", "2000"), "--samples 2000: cifar10-sample has 1000 images"),
        (("--data", "nothing.npz"), "nothing.npz"),
        (("--networks", "nowhere"), "--networks nowhere: there is no such folder"),
        (("--seed", "-1", "--dry-run"), "--seed -1: expected a whole number"),
        (("--device", "nul", "--dry-run"), "unknown device 'nul'. Did you mean null"),
    ],
)
def test_wrong_options_are_one_line(
    words: tuple[str, str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "reproduce", "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "o"), *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    err = capsys.readouterr().err
    assert stop.value.code == 2 and expected in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["damaged card", "no weights", "lacking card", "large images", "more classes"])
def test_what_cannot_be_attacked_is_told_before_any_attack(
    fault: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = tmp_path / "nets"
    nets.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(folder / f"parent{suffix}", nets / f"net{suffix}")
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8), np.arange(20) % 10
    if fault == "damaged card":
        (nets / "net.json").write_text("{")
    elif fault == "no weights":
        (nets / "net.safetensors").write_text("a text")
    elif fault == "lacking card":
        (nets / "net.json").write_text('{"arch": "resnet8"}')
    elif fault == "large images":
        images = images.repeat(2, 1).repeat(2, 2)
    else:
        labels = np.arange(20)
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    said = {
        "damaged card": "a card there is damaged", "no weights": "is not a readable safetensors file",
        "lacking card": "does not say classes",
        "large images": "has images of (3, 64, 64)", "more classes": "has 20 classes",
    }[fault]  # fmt: skip
    monkeypatch.setattr("harness.reproduce.evaluate.make_set", lambda *_: pytest.fail("an attack began"))
    places = ("--cache", str(tmp_path / "c"), "--out", str(tmp_path / "o"))
    words = ("--networks", str(nets), "--data", str(tmp_path / "test.npz"), "--samples", "4")
    for more in ((), ("--dry-run",)):
        monkeypatch.setattr(sys, "argv", ["harness", "reproduce", *places, *words, *more])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        err = capsys.readouterr().err
        assert stop.value.code == 2 and said in err and err.count("\n") == 1


def test_an_unknown_device_is_found_before_any_attack(options: ReproduceOptions, tmp_path: Path) -> None:
    wrong = ReproduceOptions(samples=4, data=options.data, folders=options.folders, device="hots")
    with pytest.raises(UsageError, match=r"unknown device 'hots'\. Did you mean host"):
        reproduce(wrong, Cache(tmp_path / "c"), [])
    assert not (tmp_path / "c").exists()


def test_a_dry_run_shows_rows_networks_and_commands(
    folder: Path, done: tuple[ReproduceRecord, Cache], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cache = done
    words = ["--dry-run", "--networks", str(folder), "--samples", "4", "--data", str(folder / "test.npz"), "--cache", str(cache.root)]
    monkeypatch.setattr(sys, "argv", ["harness", "reproduce", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    lines = {line[:20].strip(): line[21:] for line in capsys.readouterr().out.splitlines()}
    assert not stop.value.code
    assert "one-bit (6 of 6 attacks done)" in lines["w1a1"]
    monkeypatch.setattr(sys, "argv", ["harness", "reproduce", *words, "--json"])
    with pytest.raises(SystemExit):
        cli.main()
    rows = json.loads(capsys.readouterr().out)
    assert {"row": "w1a1", "network": "one-bit", "done": 6, "attacks": 6} in rows
