"""Training: splits, augmentation, resume, refusals."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.dataset import Dataset
from harness.data.load import load_data
from harness.errors import UntrustedError, UsageError
from harness.models.load import load_twin
from harness.models.zoo import ARCHITECTURES
from harness.training.augmentation import Augmentation, augment
from harness.training.card import source, train_with_card
from harness.training.objectives import OBJECTIVES
from harness.training.recipe import Recipe, load_recipe
from harness.training.regime import Regime
from harness.training.selection import Epoch, correct, split, summary, warnings
from harness.training.train import Training, fit, learning_rate, moving_average, train
from tests.no_file_more import no_file_more

pytestmark = pytest.mark.slow(20)

RECIPES = sorted((Path(__file__).parents[3] / "harness/training/recipes").rglob("*.toml"))


def recipe(**changes: object) -> Recipe:
    base = {
        "name": "tiny", "description": "a test", "arch": "resnet8", "claim": "8/255", "objective": "standard",
        "epochs": 2, "batch": 32, "lr": 0.1, "holdout": 100, "average": 0.9,
    }  # fmt: skip
    return Recipe(**{**base, **changes})


def fresh(plan: Recipe | None = None) -> torch.nn.Module:
    """The network that `train` starts from."""
    torch.manual_seed((plan or recipe()).seed)
    return ARCHITECTURES[(plan or recipe()).arch](10)


@pytest.fixture(scope="module")
def images() -> Dataset:
    return load_data("cifar10-sample", input_shape=None, classes=None, seed=0)[1]


@pytest.fixture(scope="module")
def small(images: Dataset) -> Dataset:
    """The same photographs at a quarter of the pixels."""
    return replace(images, images=images.images[:, ::2, ::2].copy())


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_shipped_recipes_are_valid_and_named_after_their_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_split_is_stratified_disjoint_and_complete() -> None:
    labels = np.repeat(np.arange(5), 40)
    kept, held = split(labels, holdout=50)
    assert np.bincount(labels[held]).tolist() == [10] * 5
    assert sorted([*kept, *held]) == list(range(200))


def test_split_leaves_half_of_a_rare_class_to_train_on() -> None:
    labels = np.array([0] * 100 + [1] * 5 + [2])
    _, held = split(labels, holdout=60)
    assert np.bincount(labels[held]).tolist() == [20, 2]


@pytest.mark.parametrize(
    ("training", "test", "words"),
    [((32, 32, 1), None, "the networks take 3 channels"), ((16, 16, 3), None, "3x16x16"), ((32, 32, 3), (16, 16, 3), "3x32x32")],
)
def test_images_that_do_not_fit_are_told_before_any_training(
    training: tuple[int, ...], test: tuple[int, ...] | None, words: str, tmp_path: Path
) -> None:
    for name, shape in (("training", training), ("test", test or training)):
        images = np.random.default_rng(0).integers(0, 256, (200, *shape), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(200) % 10)
    tests = "cifar10-sample" if test is None else str(tmp_path / "test.npz")
    with pytest.raises(UsageError, match=words):
        train_with_card(RECIPES[0], str(tmp_path / "training.npz"), tests, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_no_training_left_there_are_not_written_over(tmp_path: Path) -> None:
    """A network of one's own that is called as the recipe was lost at the end of a training."""
    images = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), np.uint8)
    for name, part in (("training", slice(200)), ("test", slice(200, 300))):
        np.savez(tmp_path / f"{name}.npz", images=images[part], labels=np.arange(300)[part] % 10)
    (tmp_path / "out").mkdir()
    mine = tmp_path / "out" / f"{load_recipe(write_recipe(tmp_path / 'r.toml')).name}.safetensors"
    mine.write_bytes(b"mine")
    with pytest.raises(UsageError, match="which this training would write over"):
        train_with_card(tmp_path / "r.toml", str(tmp_path / "training.npz"), str(tmp_path / "test.npz"), tmp_path / "out")
    assert mine.read_bytes() == b"mine"


def write_recipe(path: Path) -> Path:
    """One epoch."""
    plan = recipe(epochs=1, holdout=24).model_dump(exclude={"schedule"}, exclude_none=True)
    lines = (f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value)}" for key, value in plan.items())
    path.write_text("\n".join(lines))
    return path


def test_images_that_are_trained_on_are_no_test(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8), np.arange(200) % 10
    np.savez(tmp_path / "training.npz", images=images[:160], labels=labels[:160])
    np.savez(tmp_path / "some.npz", images=images[150:], labels=labels[150:])
    with pytest.raises(UsageError, match="of the 40 test images of some are in the training images training too"):
        train_with_card(write_recipe(tmp_path / "r.toml"), str(tmp_path / "training.npz"), str(tmp_path / "some.npz"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_card_tells_size_and_count_as_they_were(images: Dataset, tmp_path: Path) -> None:
    """Small images of seven classes, of which not all divide the held-out count: nothing on the card is CIFAR-10's."""
    few = np.flatnonzero(images.labels < 7)[:150]
    for name, part in (("mine", few), ("others", np.flatnonzero(images.labels < 7)[150:250])):
        np.savez(tmp_path / f"{name}.npz", images=images.images[part, ::2, ::2], labels=images.labels[part])
    path = train_with_card(write_recipe(tmp_path / "tiny.toml"), str(tmp_path / "mine.npz"), str(tmp_path / "others.npz"), tmp_path / "out")
    assert path is not None
    card = json.loads(path.read_text())
    assert (card["input_shape"], card["classes"], card["licence"], card["held_out"]["n"]) == ([3, 16, 16], 7, None, 21)
    told = f"--data {tmp_path / 'mine.npz'} --test {tmp_path / 'others.npz'}"
    assert card["command"] == f"harness train {tmp_path / 'tiny.toml'} {told} --out out"


@pytest.mark.parametrize(("name", "said"), [("cifar10 (training set)", "CIFAR-10: Krizhevsky"), ("cifar10", "CIFAR-10"), ("mine", None)])
def test_a_card_names_whose_images_they_were(name: str, said: str | None, images: Dataset) -> None:
    licence = source(replace(images, name=name))["licence"]
    assert licence is None if said is None else said in licence


def test_augment_moves_each_image_by_its_own_shift_and_flip() -> None:
    x = torch.arange(6 * 3 * 8 * 8, dtype=torch.float32).reshape(6, 3, 8, 8) + 1
    out = augment(x, torch.Generator().manual_seed(0), Augmentation(crop=2))
    assert out.shape == x.shape
    for before, after in zip(x, out, strict=True):
        padded = [torch.nn.functional.pad(v, (2, 2, 2, 2)) for v in (before, before.flip(2))]
        crops = [p[:, t : t + 8, s : s + 8] for p in padded for t in range(5) for s in range(5)]
        assert any(torch.equal(after, crop) for crop in crops)
    assert not torch.equal(out, x)


def test_moving_average_forgets_the_start_then_decays() -> None:
    average = moving_average(0.99)
    for seen, share in ((0, 0.9), (10_000, 0.01)):
        old = [torch.zeros(1), torch.zeros(2)]
        average(old, [torch.ones(1), torch.full((2,), 2.0)], seen)
        torch.testing.assert_close(old, [torch.full((1,), share), torch.full((2,), 2 * share)])
    steps = [torch.tensor(3)]
    average(steps, [torch.tensor(7)], 5)
    assert steps == [torch.tensor(7)], "a count is not averaged"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_resume_gives_the_weights_of_an_uninterrupted_run(objective: str, small: Dataset, tmp_path: Path, one_thread: None) -> None:
    plan, images = recipe(objective=objective, steps=2, holdout=20), small.subset(np.arange(120))
    straight, told = train(plan, images, tmp_path / "straight")

    first = Training(plan, images, fresh(plan))
    first.epoch()
    (tmp_path / "cut").mkdir()
    torch.save(first.state(), tmp_path / "cut" / "checkpoint.pt")
    resumed, history = train(plan, images, tmp_path / "cut")

    assert len(history.history) == 2
    assert history.history == told.history, "the epoch that is kept may be the first"
    assert resumed.read_bytes() == straight.read_bytes()


def test_layers_that_draw_at_random_follow_the_seed(small: Dataset, tmp_path: Path, one_thread: None) -> None:
    """Dropout draws from torch's own generator: another state of it, or a resume, must not give other weights."""
    plan, images = recipe(epochs=2, holdout=20), small.subset(np.arange(120))

    def started() -> torch.nn.Module:
        return torch.nn.Sequential(fresh(plan), torch.nn.Dropout(0.5))

    weights, histories = {}, {}
    for case in ("straight", "elsewhere", "cut"):
        network, folder = started(), tmp_path / case
        if case == "cut":
            first = Training(plan, images, started())
            first.epoch()
            folder.mkdir()
            torch.save(first.state(), folder / "checkpoint.pt")
        torch.manual_seed({"straight": 1, "elsewhere": 2, "cut": 3}[case])
        histories[case] = fit(plan, images, network, folder).history
        weights[case] = network.state_dict()
    for case in ("elsewhere", "cut"):
        assert histories[case] == histories["straight"], case
        assert all(torch.equal(weights[case][name], tensor) for name, tensor in weights["straight"].items()), case


class Brighter(torch.nn.Module):
    """Class 1 where the mean is at least one half; `steps`: rounded to steps, whose gradient is zero."""

    def __init__(self, steps: bool) -> None:
        super().__init__()
        self.steps, self.scale = steps, torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        excess = x.mean((1, 2, 3)) - 0.5
        return torch.stack([torch.zeros_like(excess), self.scale * ((200 * excess).round() if self.steps else excess)], dim=1)


@pytest.mark.parametrize(("steps", "queries", "left"), [(False, 0, 0), (True, 0, 20), (True, 100, 0)])
def test_a_hidden_gradient_does_not_pass_for_robustness_where_queries_are_asked(steps: bool, queries: int, left: int) -> None:
    grey = Dataset("grey", np.full((20, 8, 8, 3), 129, np.uint8), np.ones(20, np.int64), ["dark", "light"])
    assert correct(Brighter(steps), grey, recipe(eps=8), robust=True, queries=queries) == left


@pytest.mark.parametrize(
    ("robust", "clean", "words"),
    [
        ([0.2, 0.3, 0.14], 0.6, "fell from 30.0% to 14.0%: catastrophic overfitting"),
        ([0.2, 0.3, 0.16], 0.6, None),
        ([0.0], 0.7, "is 0.0% where clean accuracy is 70.0%: catastrophic overfitting"),
        ([0.05, 0.04], 0.6, "is 4.0% where clean accuracy is 60.0%"),
        ([0.1], 0.15, None),
        ([None, None], 0.9, None),
    ],
)
def test_catastrophic_overfitting_is_told_at_once(robust: list[float | None], clean: float, words: str | None) -> None:
    history = [Epoch(i + 1, 1.0, clean, value) for i, value in enumerate(robust)]
    found = warnings(history)
    assert (len(found) == 1 and words in found[0] and "more inner steps" in found[0]) if words else found == []
    lines = summary(recipe(epochs=10), history, 90.0, Regime()).splitlines()
    assert lines[0].endswith(f"90 s an epoch, {1.5 * (10 - len(robust)):.0f} min left")
    assert [line.startswith("warning: ") for line in lines[1:]] == [True] * len(found)


def test_a_network_that_is_accurate_and_not_robust_is_told(images: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What catastrophic overfitting leaves: the zoo's plainly trained network, in an adversarial stage that does not move it."""
    network = load_twin("resnet8").module.requires_grad_()
    fit(recipe(objective="n-fgsm", epochs=1, lr=1e-12), images.subset(np.arange(200)), network, tmp_path)
    assert "warning: robust accuracy is 0.0% where clean accuracy is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "steps", "milestones": (5, 8), "epochs": 10}, {0: 0.1, 49: 0.1, 50: 0.01, 79: 0.01, 80: 0.001, 99: 0.001}),
        (
            {"schedule": "steps", "milestones": (2, 4), "period": 5, "epochs": 10},
            {0: 0.1, 19: 0.1, 20: 0.01, 40: 0.001, 49: 0.001, 50: 0.1, 69: 0.1, 70: 0.01, 90: 0.001},
        ),
        ({"schedule": "steps", "epochs": 10}, {0: 0.1, 99: 0.1}),
        ({"schedule": "cosine", "epochs": 10}, {0: 0.1, 50: 0.05, 99: 2.5e-5}),
        ({"schedule": "one-cycle", "warmup": 0.2, "epochs": 10}, {0: 0.004, 20: 0.1, 60: 0.05, 99: 3.9e-5}),
    ],
)
def test_learning_rates(changes: dict[str, object], expected: dict[int, float]) -> None:
    found = {step: learning_rate(recipe(**changes), step, 100) for step in expected}
    assert found == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_a_checkpoint_of_an_earlier_version_lacks_a_field(images: Dataset, tmp_path: Path) -> None:
    """A field that a stage gained since counts with its default: hours of training are not thrown away."""
    state = Training(recipe(schedule="steps"), images, fresh()).state()
    stage = json.loads(state["stage"])
    assert stage.pop("milestones") == []
    torch.save({**state, "stage": json.dumps(stage)}, tmp_path / "checkpoint.pt")
    Training(recipe(schedule="steps"), images, fresh()).restore(tmp_path / "checkpoint.pt")
    with pytest.raises(UntrustedError, match=r"another stage: milestones \(\) then, \(1,\) now"):
        Training(recipe(schedule="steps", milestones=(1,)), images, fresh()).restore(tmp_path / "checkpoint.pt")


def test_training_learns(small: Dataset) -> None:
    run = Training(recipe(epochs=12, holdout=60), small, fresh())
    while len(run.history) < 12:
        run.epoch()
    assert run.history[-1].loss < run.history[0].loss - 0.3
    assert max(e.clean for e in run.history) > 0.2  # chance is 0.1


def test_a_checkpoint_of_another_recipe_is_refused(images: Dataset, tmp_path: Path) -> None:
    torch.save(Training(recipe(), images, fresh()).state(), tmp_path / "checkpoint.pt")
    with pytest.raises(UntrustedError, match="another stage"):
        train(recipe(lr=0.2), images, tmp_path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 20] ^= 255
    path.write_bytes(content)


def without_network(path: Path) -> None:
    state = torch.load(path)
    torch.save({**state, "network": {}}, path)


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        flipped,
        without_network,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps({"recipe": print})),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({}, path),
    ],
    ids=["truncated", "flipped", "without network", "empty", "a pickle", "a list", "a dictionary"],
)
def test_a_damaged_checkpoint_is_one_clear_line(damage: Callable[[Path], None], images: Dataset, tmp_path: Path) -> None:
    torch.save(Training(recipe(), images, fresh()).state(), tmp_path / "checkpoint.pt")
    damage(tmp_path / "checkpoint.pt")
    with pytest.raises(UntrustedError, match=r"checkpoint\.pt is damaged: .*Delete it") as caught:
        Training(recipe(), images, fresh()).restore(tmp_path / "checkpoint.pt")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_read_is_not_damaged(images: Dataset, tmp_path: Path) -> None:
    """It was said to be, and to be deleted, with all the epochs in it."""
    run = Training(recipe(), images, fresh())
    torch.save(run.state(), tmp_path / "checkpoint.pt")
    with no_file_more(), pytest.raises(OSError, match="Too many open files"):
        run.restore(tmp_path / "checkpoint.pt")
    run.restore(tmp_path / "checkpoint.pt")


def test_a_loss_that_is_not_finite_stops_with_the_remedy(images: Dataset) -> None:
    run = Training(recipe(lr=1e12, bf16=False), images, fresh())
    with pytest.raises(UntrustedError, match="lower lr"):
        while True:
            run.epoch()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = [", "is not TOML"),
        ('name = "x"', "arch: Field required"),
        (None, "cannot read recipe"),
    ],
)
def test_bad_recipes(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_recipe(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"claim": "eight"}, r"claim: Value error, 'eight' is not a radius\. Expected a fraction such as 8/255"),
        ({"claim": "8"}, "claim: .*Did you mean 8/255"),
        ({"name": "../mine"}, "name: String should match pattern"),
        ({"name": ""}, "name: String should match pattern"),
        ({"name": "mine\\n"}, "name: String should match pattern"),
        ({"milestones": [1]}, r"r\.toml: Value error, milestones and period are of the schedule steps, and this is one-cycle"),
        ({"milestones": [-1], "schedule": "steps"}, "milestones.0: Input should be greater than 0"),
    ],
)
def test_values_that_would_fail_after_training_are_refused_before(changes: dict[str, str], words: str, tmp_path: Path) -> None:
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in {**recipe().model_dump(exclude_none=True), **changes}.items())
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        load_recipe(tmp_path / "r.toml")
    assert str(tmp_path / "r.toml") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "resnet9"}, "unknown arch"),
        ({"holdout": 400}, "holds out 400"),
        ({"holdout": 5}, "at least one of each of the 10 classes"),
        ({"batch": 500}, "has 412 images to train on"),
    ],
)
def test_a_recipe_that_does_not_fit(changes: dict[str, object], words: str, images: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        train(recipe(**changes), images, tmp_path)
