"""The shipped networks are as accurate as their cards say, and as the project promises."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from export.flavours import export_flavour
from export.session import open_session, to_input
from harness.cards import command, nonzero
from harness.compression.count import weight_bits
from harness.data.load import load_data
from harness.models.load import Twin, load_twin
from harness.models.predictions import logits
from harness.models.shipped import WEIGHTS, cards
from harness.models.variants import QuantizedReLU
from reports.zoo import zoo_page

pytestmark = pytest.mark.slow(55)

PROMISED = {  # least shares on cifar10-sample, all 1,000 images
    "resnet8": {"clean": 0.85},
    "resnet18x16-at": {"clean": 0.68, "pgd (20 steps of eps/4)": 0.38},
}


@cache
def shipped(name: str) -> Twin:
    """Read once for all that is asked of it."""
    return load_twin(name)


def test_the_promised_networks_are_shipped() -> None:
    assert set(cards()) >= set(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_the_card_meets_the_promise_with_n_and_interval(name: str) -> None:
    measured = cards()[name]["measured"]
    for figure, least in PROMISED[name].items():
        assert measured[figure]["accuracy"] >= least
        assert measured[figure]["n"] == 1000
        assert measured[figure]["ci95"][0] < measured[figure]["accuracy"] < measured[figure]["ci95"][1]


@pytest.mark.parametrize("name", sorted(cards()))
def test_the_clean_figure_of_the_card_is_what_the_weights_give(name: str) -> None:
    twin = shipped(name)
    test, _ = load_data("cifar10-sample", input_shape=twin.input_shape, classes=twin.classes, seed=0)
    right = int((logits(twin.module, test.images).argmax(1) == test.labels).sum())
    assert right == twin.card["measured"]["clean"]["correct"]


def test_the_page_of_the_zoo_is_what_the_cards_say() -> None:
    page = Path(__file__).parents[3] / "docs" / "zoo.md"
    assert page.read_text() == zoo_page(cards()), "run: harness models list --markdown > docs/zoo.md"


@pytest.mark.parametrize("name", sorted(cards()))
def test_the_size_of_the_card_is_what_the_weights_give(name: str) -> None:
    twin = shipped(name)
    weights = [weight.detach() for weight in twin.module.parameters()]
    assert nonzero(twin.card) == sum(int(weight.count_nonzero()) for weight in weights)
    if (told := twin.card.get("size")) is None:
        return
    assert told["this"]["weight_bits"] == sum(map(weight_bits, weights))
    assert told["this"]["file_bytes"] == (WEIGHTS / f"{name}.safetensors").stat().st_size
    assert all(told["ratio"][way] == round(told["parent"][way] / told["this"][way], 3) for way in told["ratio"])


def test_what_gradients_overstate_is_marked_and_said() -> None:
    """The three attacks of a card follow gradients; the report of harness reproduce has one that does not."""
    docs = Path(__file__).parents[3] / "docs"
    page, report = ((docs / name).read_text() for name in ("zoo.md", "reproduction.md"))
    marked = {line.split(" | ")[0].strip("| ") for line in page.splitlines() if "| ≤ " in line}
    assert marked == {name for name, card in cards().items() if any(isinstance(m, QuantizedReLU) for m in shipped(name).module.modules())}
    one_bit = next(line for line in report.splitlines() if line.startswith("| resnet18x16-at-lowbit-w1a1 |")).split(" | ")
    square = one_bit[6].split()[0]
    assert f"of 256 images it leaves resnet18x16-at-lowbit-w1a1 {square} %" in page


def test_every_network_tells_the_command_that_made_it() -> None:
    assert [name for name, card in cards().items() if command(card) is None] == []


def test_every_training_tells_what_it_ran_on_or_that_nobody_noted_it() -> None:
    trainings = [stage for card in cards().values() for stage in (card.get("stages", {}) or {"": card}).values()]
    assert all(training["trained_on"] for training in trainings if "selected_epoch" in training)


def test_the_zoo_is_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 25 << 20


def test_resnet8_keeps_mlperf_tinys_quality_target_as_int8(tmp_path: Path) -> None:
    twin = shipped("resnet8")
    test, calibration = load_data("cifar10-sample", input_shape=twin.input_shape, classes=twin.classes, seed=0)
    artefact = export_flavour(
        twin.module,
        "ort-int8",
        input_shape=twin.input_shape,
        source_sha256=twin.sha256,
        calibration_images=calibration.images,
        calibration_method="minmax",
        folder=tmp_path,
    )
    session = open_session(str(artefact.path))
    (found,) = session.run(None, {artefact.input_name: to_input(test.images)})
    assert np.mean(found.argmax(1) == test.labels) >= 0.85
