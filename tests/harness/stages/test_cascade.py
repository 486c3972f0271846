"""The cascade against its own definition: the worst case of all attacks on all images, for a part of the gradients."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "attacks"))

from linear import linear_data, linear_model

from harness.answers import TWIN, Answers, Images, Logits
from harness.attacks.access import Access
from harness.attacks.table import resolve
from harness.attacks.target import EngineLostError, GuidedTarget, ModuleTarget
from harness.data.dataset import Dataset, to_tensor
from harness.models.fewer_bits import of_fewer_bits
from harness.settings import Settings
from harness.sources import PARENT, SMOOTH, SOURCES, complete, deciding, facing, fewer_bits_name, lacking, of_run
from harness.sources.planned import Context
from harness.stages.attack import Cascade
from harness.stages.judge import _seeded

pytestmark = pytest.mark.slow(40)

EPS = Fraction(8, 255)
BETWEEN = {"graph-ort-int8": 0.3, "simulated-ort-int8": 0.15, "parent": 0.6}  # how far each is from the twin
ENGINE = "ort-int8"


class Counted(nn.Module):
    """A model that counts the images it is asked for a gradient of, its copies included."""

    images = 0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            Counted.images += len(images)
        logits: Tensor = self.model(images)
        return logits


def nearly(model: nn.Module, noise: float) -> nn.Module:
    """The model as an engine might have it: its weights a little off."""
    torch.manual_seed(5)
    other = linear_model(3)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other[1].weight += noise * torch.randn_like(other[1].weight)
    return other


def context(
    model: nn.Module, data: Dataset, engines: dict[str, Any], attacks: tuple[str, ...] = ("fgsm", "pgd"), eps: Fraction = EPS
) -> Context:
    subject: Any = SimpleNamespace(
        attacks=tuple(map(resolve, attacks)),
        eps=eps,
        index=np.arange(len(data)),
        test=data,
        attacked=data,
        twin=SimpleNamespace(module=model),
    )
    return Context(subject, Settings(model="linear", attacks=attacks), ModuleTarget(model), engines)


def run(folder: Path, where: Context, *, exhaustive: bool = False) -> Cascade:
    cascade = Cascade(where, Answers(folder), folder, exhaustive, lambda line: None)
    folder.mkdir(exist_ok=True)
    cascade.run()
    return cascade


def robust(cascade: Cascade, model: str, eps: Fraction = EPS) -> np.ndarray:
    engine = ENGINE if ENGINE in cascade.context.engines else TWIN
    return cascade.matrix.worst_case(model, deciding(cascade.columns, engine, eps))


def survives(model: nn.Module, data: Dataset, eps: Fraction) -> np.ndarray:
    """Exactly: a linear model's margin over each class falls by at most eps times the L1 norm of the difference of their weights."""
    weight = model[1].weight.detach().double()  # type: ignore[index]
    with torch.no_grad():
        logits = model(to_tensor(data.images)).double()
    labels = torch.from_numpy(data.labels)
    own = logits.gather(1, labels[:, None])
    reach = float(eps) * (weight[labels][:, None] - weight[None]).abs().sum(-1)
    gap = own - logits - reach
    gap[torch.arange(len(labels)), labels] = torch.inf
    found: np.ndarray = (gap > 0).all(1).numpy()
    return found


@pytest.fixture
def linear() -> Iterator[tuple[nn.Module, Dataset]]:
    model = linear_model(3)
    yield model, linear_data(model)


def test_the_worst_case_is_the_exact_one(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear
    cascade = run(tmp_path / "run", context(model, data, {ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE)}))
    exact = survives(model, data, EPS)
    found = robust(cascade, TWIN)
    assert (exact <= found).all(), "an image was called fooled that nothing in the ball can fool"
    assert (found != exact).mean() <= 0.02, "on a linear model one step along the sign is the strongest attack"


def test_it_is_that_of_all_attacks_on_all_images_for_fewer_gradients(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear
    spent, worst = {}, {}
    for exhaustive in (False, True):
        Counted.images = 0
        where = context(Counted(model), data, {ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE)}, ("fgsm", "pgd", "apgd-ce"))
        cascade = run(tmp_path / str(exhaustive), where, exhaustive=exhaustive)
        spent[exhaustive] = Counted.images
        worst[exhaustive] = [robust(cascade, name) for name in (TWIN, ENGINE)]
    for quick, whole in zip(worst[False], worst[True], strict=True):
        np.testing.assert_array_equal(quick, whole)
    assert spent[False] < spent[True] / 2


def test_an_image_stays_until_the_engine_is_fooled_too(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    """An engine that is another network: what fools the twin seldom fools it, so its images go through every attack."""
    model, data = linear
    other = linear_model(3, seed=9)
    cascade = run(tmp_path / "run", context(model, data, {ENGINE: ModuleTarget(other, ENGINE)}))
    (fgsm, pgd) = (column for column in cascade.columns if column.record.source == "S1" and column.eps == EPS)
    right = cascade.matrix.right
    out = set(fgsm.index[~right(TWIN, fgsm) & ~right(ENGINE, fgsm)])
    assert out and not out & set(pgd.index), "who is fooled altogether leaves"
    held = set(fgsm.index[right(ENGINE, fgsm)]) & set(np.flatnonzero(right(ENGINE)))
    assert held <= set(pgd.index), "whoever fools the twin alone stays"


def test_the_curve_asks_only_what_containment_leaves_open(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear
    cascade = run(tmp_path / "run", context(model, data, {ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE)}))
    for radius in (Fraction(1, 255), Fraction(2, 255), Fraction(4, 255)):
        (column,) = (c for c in cascade.columns if c.eps == radius)
        broken = ~robust(cascade, TWIN, Fraction(8, 255)) | ~robust(cascade, ENGINE, Fraction(8, 255))
        assert set(column.index) <= set(np.flatnonzero(broken)), "what survives at 8/255 survives below"
        assert (survives(model, data, radius) <= robust(cascade, TWIN, radius)).all()
        assert (survives(model, data, radius) != robust(cascade, TWIN, radius)).mean() <= 0.05
    shares = [robust(cascade, TWIN, Fraction(k, 255)).mean() for k in (1, 2, 4, 8)]
    assert shares == sorted(shares, reverse=True)


def test_it_goes_on_where_it_was_and_gives_the_same_bytes(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear
    engines = {ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE)}
    whole = run(tmp_path / "whole", context(model, data, engines))
    begun = Cascade(context(model, data, engines), Answers(tmp_path / "begun"), tmp_path / "begun", False, lambda line: None)
    (tmp_path / "begun").mkdir()
    real, calls = begun._make, []

    def stop_after_three(planned: Any) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(planned)
        real(planned)

    begun._make = stop_after_three  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        begun.run()
    again = run(tmp_path / "begun", context(model, data, engines))
    assert [c.record.set_sha256 for c in again.columns] == [c.record.set_sha256 for c in whole.columns]


def test_an_engine_that_gives_up_leaves_and_stops_no_other(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear

    class Failing(ModuleTarget):
        asked = 0

        def logits(self, images: Images) -> Logits:
            type(self).asked += 1
            if type(self).asked > 3:
                raise EngineLostError("bad", "it died")
            return super().logits(images)

    engines = {"bad": Failing(nearly(model, 0.1), "bad"), ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE)}
    cascade = run(tmp_path / "run", context(model, data, engines))
    assert cascade.lost == {"bad": "it died"}
    alone = run(tmp_path / "alone", context(model, data, {ENGINE: engines[ENGINE]}))
    np.testing.assert_array_equal(robust(cascade, ENGINE), robust(alone, ENGINE))


def planned(where: Context) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(p.name, p.attack.name, p.target.id, p.warm) for p in SOURCES["S4"].plan(where)]


def test_each_engine_gets_the_attacks_that_its_answers_allow_and_the_twin_the_same(linear: tuple[nn.Module, Dataset]) -> None:
    model, data = linear
    scores, labels = ModuleTarget(model, ENGINE, Access.SCORES), ModuleTarget(model, "own", Access.LABELS)
    before = ("S1", "S3")
    assert planned(context(model, data, {ENGINE: scores})) == [
        (name, attack, name, warm)
        for name in (TWIN, ENGINE)
        for attack, warm in (("bpda-20", before), ("square-30", ()), ("square-warm-30", before))
    ]
    assert [(name, attack) for name, attack, _, _ in planned(context(model, data, {"own": labels}))] == [
        (name, attack) for name in (TWIN, "own") for attack in ("bpda-20", "hopskipjump-30")
    ]
    both = [(name, attack) for name, attack, _, _ in planned(context(model, data, {ENGINE: scores, "own": labels}))]
    assert {attack for name, attack in both if name == TWIN} == {"bpda-20", "square-30", "square-warm-30", "hopskipjump-30"}
    assert planned(context(model, data, {})) == []
    bench = context(model, data, {ENGINE: scores})
    bench = replace(bench, settings=bench.settings.model_copy(update={"tier": "bench"}))
    assert [(name, warm) for name, attack, _, warm in planned(bench) if attack == "bisect"] == [(TWIN, before), (ENGINE, before)]


def test_where_distances_are_measured_queries_look_for_them_too(linear: tuple[nn.Module, Dataset]) -> None:
    model, data = linear
    where = context(model, data, {ENGINE: ModuleTarget(model, ENGINE, Access.SCORES)}, attacks=("fgsm", "cw-l2"))
    bench = replace(where, settings=where.settings.model_copy(update={"tier": "bench"}))
    assert [(name, warm) for name, attack, _, warm in planned(bench) if attack.startswith("square-l2")] == [(TWIN, ()), (ENGINE, ())]
    assert not [attack for _, attack, _, _ in planned(where) if attack.startswith("square-l2")], "30 queries tell nothing"


def test_the_graph_is_attacked_once_more_at_a_temperature_beyond_the_quick_tier(linear: tuple[nn.Module, Dataset]) -> None:
    model, data = linear
    where = replace(context(model, data, {}), graphs={ENGINE: ModuleTarget(model, f"graph-{ENGINE}")})
    bench = replace(where, settings=where.settings.model_copy(update={"tier": "bench"}))
    assert [p.attack.name for p in SOURCES["S3"].plan(where)] == ["fgsm", "pgd"]
    assert [p.attack.name for p in SOURCES["S3"].plan(bench)] == ["fgsm", "pgd", "apgd-scaled-100", "apgd-probs-100"]


def test_an_engine_is_led_by_its_own_graph_and_each_of_its_builds_too(linear: tuple[nn.Module, Dataset]) -> None:
    model, data = linear
    graph, engines = nearly(model, 0.1), {name: ModuleTarget(model, name, Access.SCORES) for name in (ENGINE, f"{ENGINE}#2", "onnx-fp32")}
    where = replace(context(model, data, engines), graphs={ENGINE: ModuleTarget(graph, f"graph-{ENGINE}")})
    guides = {p.name: p.target.guide for p in SOURCES["S4"].plan(where) if isinstance(p.target, GuidedTarget)}
    assert guides == {ENGINE: graph, f"{ENGINE}#2": graph, "onnx-fp32": model}


def test_what_each_tier_attacks(linear: tuple[nn.Module, Dataset]) -> None:
    assert [source.id for source in of_run((), "quick")] == ["S0", "S1", "S3", "S4", "gate"]
    assert [source.id for source in of_run((), "bench")] == ["S0", "S1", "S2", "S3", "S4", "S5", "S7", "gate"]
    assert [source.id for source in of_run((), "qualify")] == ["S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "gate"]
    assert [source.id for source in of_run(("S5", "S1"), "quick")] == ["S1", "S5"]
    model, data = linear
    where = replace(context(model, data, {}), graphs={ENGINE: ModuleTarget(nearly(model, 0.1), f"graph-{ENGINE}")})
    assert [(p.name, p.attack.name, p.target.id) for p in SOURCES["S5"].plan(where)] == [
        (ENGINE, "diva", f"graph-{ENGINE}"), (ENGINE, "diva-reverse", TWIN),
    ]  # fmt: skip
    assert list(SOURCES["S2"].plan(where)) == list(SOURCES["S6"].plan(where)) == []
    smooth = replace(where, smooth=ModuleTarget(nearly(model, 0.1), SMOOTH))
    assert [(p.name, p.attack.name, p.target.id) for p in SOURCES["S2"].plan(smooth)] == [(TWIN, "fgsm", SMOOTH), (TWIN, "pgd", SMOOTH)]


def test_sets_on_the_twin_without_quantizers_and_on_pairs_count_and_are_answered_by_the_row_they_were_made_on(
    linear: tuple[nn.Module, Dataset], tmp_path: Path
) -> None:
    model, data = linear
    engine = nearly(model, 0.3)
    where = context(model, data, {ENGINE: ModuleTarget(engine, ENGINE, Access.SCORES)})
    where = replace(
        where,
        settings=where.settings.model_copy(update={"tier": "bench"}),
        graphs={ENGINE: ModuleTarget(nearly(model, 0.3), f"graph-{ENGINE}")},
        smooth=ModuleTarget(nearly(model, 0.2), SMOOTH),
    )
    cascade = run(tmp_path / "run", where, exhaustive=True)
    made = {(c.record.source, c.record.target, c.record.made_on): c for c in cascade.columns}
    assert {("S2", TWIN, SMOOTH), ("S5", ENGINE, f"graph-{ENGINE}"), ("S5", ENGINE, TWIN)} <= made.keys()
    for (_, _, row), column in made.items():
        shown = cascade.matrix.right(row, column)
        assert column.record.source == "S5" or column.record.target_accuracy == pytest.approx(shown.mean(), abs=0.02), column.record
    assert {c.record.source for c in deciding(cascade.columns, ENGINE, EPS)} == {"S1", "S2", "S3", "S4", "S5"}
    apart, reverse = made["S5", ENGINE, f"graph-{ENGINE}"], made["S5", ENGINE, TWIN]
    right = cascade.matrix.right
    evaded = {c.record.name: (right(TWIN, c) & ~right(ENGINE, c)).mean() for c in cascade.columns if c.eps == EPS}
    assert evaded[apart.record.name] > evaded["fgsm"], "the same bytes: engine fooled, twin not"
    assert (~right(TWIN, reverse) & right(ENGINE, reverse)).mean() > (right(TWIN, reverse) & ~right(ENGINE, reverse)).mean()


def test_models_between_and_the_parent_end_at_the_worst_case_of_all_attacks_on_all_images(
    linear: tuple[nn.Module, Dataset], tmp_path: Path
) -> None:
    """Without a place among those that must be fooled, images would leave that a model between was never shown at their worst."""
    model, data = linear
    graph, file, parent = (ModuleTarget(nearly(model, noise), name) for name, noise in BETWEEN.items())
    where = replace(
        context(model, data, {ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE)}, ("fgsm", "pgd", "apgd-ce")),
        graphs={ENGINE: graph}, between={ENGINE: [graph, file]}, parent=parent,
    )  # fmt: skip
    found: dict[bool, dict[str, np.ndarray]] = {}
    for exhaustive in (False, True):
        cascade = run(tmp_path / str(exhaustive), where, exhaustive=exhaustive)
        rows = dict.fromkeys((graph.id, file.id, ENGINE, TWIN), ENGINE) | {PARENT: PARENT}
        found[exhaustive] = {name: cascade.matrix.worst_case(name, facing(cascade.columns, claim, EPS)) for name, claim in rows.items()}
        assert not [c for c in deciding(cascade.columns, ENGINE, Fraction(1)) if c.record.target == PARENT]
    for name in found[True]:
        assert (found[False][name] & ~found[True][name]).sum() == 0, f"{name} looks more robust than under all attacks on all images"
    exact = survives(parent.module, data, EPS)
    assert (exact <= found[False][PARENT]).all() and (exact != found[False][PARENT]).mean() <= 0.03


def test_a_flavours_graph_is_attacked_once_for_all_its_builds_until_each_is_fooled(
    linear: tuple[nn.Module, Dataset], tmp_path: Path
) -> None:
    """The second build is another network, which what fools the first one seldom fools: its images stay in the pool."""
    model, data = linear
    builds = [ENGINE, f"{ENGINE}#2"]
    engines = {name: ModuleTarget(nearly(model, noise), name, Access.SCORES) for name, noise in zip(builds, (0.02, 0.6), strict=True)}
    graph = ModuleTarget(nearly(model, 0.02), f"graph-{ENGINE}")
    cascade = run(tmp_path / "run", replace(context(model, data, engines), graphs={ENGINE: graph}))
    s3 = [column for column in cascade.columns if column.record.source == "S3"]
    assert [column.record.target for column in s3] == [ENGINE, ENGINE]
    for engine in builds:
        own = deciding(cascade.columns, engine, EPS)
        assert complete(own, engine) == {"S1", "S3", "S4"} and lacking(complete(own, engine), own_graph=True) == []
        assert [column for column in own if column.record.source == "S3"] == s3
    before = [column for column in cascade.columns[: cascade.columns.index(s3[0])] if column.record.source != "S0"]
    holds = [cascade.matrix.worst_case(name, deciding(before, name, EPS)) for name in (TWIN, *builds)]
    assert set(s3[0].index) == set(np.flatnonzero(np.any(holds, axis=0))) > set(np.flatnonzero(holds[0] | holds[1]))


def test_the_first_build_that_gives_up_takes_its_flavours_graph_from_no_other(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear

    class Failing(ModuleTarget):
        def logits(self, images: Images) -> Logits:
            raise EngineLostError(ENGINE, "it died")

    engines = {ENGINE: Failing(model, ENGINE), f"{ENGINE}#2": ModuleTarget(nearly(model, 0.05), f"{ENGINE}#2", Access.SCORES)}
    where = replace(context(model, data, engines), graphs={ENGINE: ModuleTarget(nearly(model, 0.05), f"graph-{ENGINE}")})
    cascade = Cascade(where, Answers(tmp_path), tmp_path, False, lambda line: None, lost={ENGINE: "it died"})
    cascade.run()
    assert complete(deciding(cascade.columns, f"{ENGINE}#2", EPS), f"{ENGINE}#2") == {"S1", "S3", "S4"}
    assert not [column for column in cascade.columns if (column.record.source, column.record.target) == ("S4", ENGINE)]


def weaker_than_its_twin(model: nn.Module) -> nn.Module:
    """An engine that the twin's sets do not fool: the class that they aim at is far from it, the other one near."""
    other = nearly(model, 0.0)
    with torch.no_grad():
        other[1].bias += torch.tensor([0.0, -10.0, 1.0])  # type: ignore[index,operator]
    return other


@pytest.mark.parametrize("eps", [EPS, Fraction(4, 255)], ids=["the largest of the curve", "not the largest"])
def test_an_engine_weaker_than_its_twin_is_broken_though_replay_does_not_break_it(eps: Fraction, tmp_path: Path) -> None:
    model = linear_model(3)
    data = linear_data(model, n=1500, wrong=0)
    with torch.no_grad():
        order = model(to_tensor(data.images)).argsort(1, descending=True)
        weaker = weaker_than_its_twin(model)
        right = weaker(to_tensor(data.images)).argmax(1) == 0
    data = data.subset(np.flatnonzero((order[:, 0] == 0) & (order[:, 1] == 1) & right))
    cascade = run(tmp_path / "run", context(model, data, {ENGINE: ModuleTarget(weaker, ENGINE, Access.SCORES)}, eps=eps))
    replayed = [column for column in deciding(cascade.columns, ENGINE, eps) if column.record.source == "S1"]
    by_replay, by_all, exact = cascade.matrix.worst_case(ENGINE, replayed), robust(cascade, ENGINE, eps), survives(weaker, data, eps)
    assert by_replay.sum() >= exact.sum() + 3, "replay leaves what can be broken"
    first = next(column for column in cascade.columns if column.record.source == "S4")
    assert set(np.flatnonzero(by_replay)) <= set(first.index), "also what the twin's sets in a larger ball did not break"
    np.testing.assert_array_equal(by_all, exact)


def test_a_warm_start_takes_nothing_from_sets_that_are_aimed_at_another_engine(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear
    engines = {name: ModuleTarget(nearly(model, noise), name, Access.SCORES) for name, noise in ((ENGINE, 0.05), ("other", 0.5))}

    def sets(names: tuple[str, ...], folder: Path) -> dict[tuple[str, str], str]:
        graphs = {name: ModuleTarget(engines[name].module, f"graph-{name}") for name in names}
        where = replace(context(model, data, {name: engines[name] for name in names}), graphs=graphs)
        columns = run(folder, where, exhaustive=True).columns
        return {(c.record.name, c.record.source): c.record.set_sha256 for c in columns if c.record.target == ENGINE}

    alone, beside = sets((ENGINE,), tmp_path / "alone"), sets((ENGINE, "other"), tmp_path / "beside")
    assert alone == beside and len(alone) == 5


def test_random_starts_do_not_depend_on_who_else_is_in_the_batch(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    from harness.attacks.sets import make_set

    model, data = linear
    whole, images = make_set(model, data, np.arange(40), resolve("pgd-1"), EPS, 0, source="S1", folder=tmp_path / "a", batch=40)
    _, some = make_set(model, data, np.arange(10, 20), resolve("pgd-1"), EPS, 0, source="S1", folder=tmp_path / "b", batch=3)
    np.testing.assert_array_equal(images[10:20], some[:])
    assert whole.n == 40


def test_qualify_attacks_with_three_seeds_and_with_the_later_ones_what_is_left(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear
    where = context(model, data, {ENGINE: ModuleTarget(nearly(model, 0.05), ENGINE, Access.SCORES)}, ("fgsm", "pgd-1"))
    qualify = replace(where, settings=where.settings.model_copy(update={"tier": "qualify", "sources": ("S0", "S1"), "seed": 7}))
    cascade = run(tmp_path / "run", qualify, exhaustive=True)
    at_eps = [c for c in cascade.columns if c.record.source == "S1" and c.eps == EPS]
    assert [(c.record.name, c.record.seed) for c in at_eps] == [("fgsm", 7), ("pgd-1", 7), ("pgd-1#2", 8), ("pgd-1#3", 9)]
    assert [c.record.seed for c in cascade.columns if c.record.source == "S0" or c.eps != EPS] == [7] * 4, "the floor and the curve once"
    fgsm, first, second, third = at_eps
    assert len(fgsm.index) == len(first.index) == len(data) and len(third.index) <= len(second.index) < len(data)
    left = np.flatnonzero(cascade.matrix.worst_case(TWIN, [fgsm, first]) | cascade.matrix.worst_case(ENGINE, [fgsm, first]))
    np.testing.assert_array_equal(second.index, left)
    assert {first.record.set_sha256, second.record.set_sha256, third.record.set_sha256} <= {
        c.record.set_sha256 for c in deciding(cascade.columns, ENGINE, EPS)
    }, "the sets of every seed are part of the worst case"
    evidence: Any = SimpleNamespace(matrix=cascade.matrix)
    (seeded,) = _seeded(evidence, [ENGINE])
    fooled = both = 0
    for c in (first, second, third):
        counts = cascade.matrix.right(TWIN)[c.index] & cascade.matrix.right(ENGINE)[c.index] & ~cascade.matrix.right(TWIN, c)
        fooled, both = fooled + counts.sum(), both + (counts & ~cascade.matrix.right(ENGINE, c)).sum()
    assert (seeded.attack, seeded.seeds, seeded.transfer_rate) == ("pgd-1", [7, 8, 9], both / fooled)
    assert seeded.ci95[0] <= seeded.transfer_rate <= seeded.ci95[1] and seeded.ci95[0] < seeded.ci95[1]
    of_none = replace(third, record=third.record.model_copy(update={"n": 0}), index=third.index[:0])
    evidence.matrix = replace(cascade.matrix, columns=[of_none if c is third else c for c in cascade.columns])
    assert [s.seeds for s in _seeded(evidence, [ENGINE])] == [[7, 8]], "a seed that had nothing left to attack is none of the rate's"


def test_another_seed_starts_elsewhere_and_may_find_more(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    """A twin that falls in a random tenth of the ball: each seed finds its share, and the worst case is that of all three."""
    _, data = linear

    class Lottery(nn.Module):
        """The label's own side, but where a hash of the bytes says otherwise; clean images are always right."""

        clean = to_tensor(data.images)
        labels = torch.from_numpy(data.labels)

        def forward(self, x: Tensor) -> Tensor:
            near = (x.flatten(1)[:, None] - self.clean.flatten(1)[None]).abs().amax(2)
            nearest, which = near.min(1)
            drawn = (torch.round(255 * x).flatten(1) * torch.arange(1, x[0].numel() + 1)).sum(1) % 10
            other = (nearest > 1e-4) & (drawn == 0)
            chosen = (self.labels[which] + other) % 3
            return nn.functional.one_hot(chosen, 3).float() + 0 * x.flatten(1).sum(1, keepdim=True)

    where = context(Lottery(), data, {}, ("pgd-1",))
    qualify = replace(where, settings=where.settings.model_copy(update={"tier": "qualify", "sources": ("S1",)}))
    cascade = run(tmp_path / "run", qualify, exhaustive=True)
    own = [c for c in cascade.columns if c.eps == EPS]
    kept = [int(cascade.matrix.worst_case(TWIN, own[: k + 1]).sum()) for k in range(3)]
    assert kept[2] < kept[1] < kept[0] < len(data), kept
    assert robust(cascade, TWIN).sum() <= kept[2]


def test_sets_on_the_twin_of_fewer_bits_count_for_quantized_engines_alone(
    linear: tuple[nn.Module, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that rounds its weights to 2 bits is another network than the twin; the surrogate has its very weights."""
    model, data = linear
    few = to_tensor(data.images[:4])
    coarse = {bits: of_fewer_bits(model, few, bits) for bits in (4, 2)}
    targets = {bits: ModuleTarget(module, fewer_bits_name(bits)) for bits, module in coarse.items() if module is not None}
    assert set(targets) == {4, 2} and of_fewer_bits(targets[2].module, few, 2) is None, "what is as coarse is no other network"
    assert torch.equal(model[1].weight, linear_model(3)[1].weight), "the twin is left as it is"  # type: ignore[index]
    engines = {ENGINE: ModuleTarget(targets[2].module, ENGINE, Access.SCORES), "onnx-fp32": ModuleTarget(model, "onnx-fp32", Access.SCORES)}
    where = context(model, data, engines, ("fgsm",))
    settings = where.settings.model_copy(update={"tier": "bench", "sources": ("S1", "S7")})
    graphs = {ENGINE: ModuleTarget(nearly(model, 0.1), f"graph-{ENGINE}")}
    cascade = run(tmp_path / "run", replace(where, settings=settings, graphs=graphs, fewer_bits=targets))
    made = [c.record for c in cascade.columns if c.record.source == "S7"]
    assert [(r.target, r.made_on, r.name) for r in made] == [
        (ENGINE, "twin-w4", "apgd-ce-100@w4"), (ENGINE, "twin-w2", "apgd-ce-100@w2"),
    ]  # fmt: skip
    assert {"S7 apgd-ce-100@w2 on twin-w2 for " + f"{ENGINE} at {EPS}"} <= {
        line.partition(":")[0] for line in capsys.readouterr().err.splitlines()
    }
    assert "S7" in {c.record.source for c in deciding(cascade.columns, ENGINE, EPS)}
    assert "S7" not in {c.record.source for c in deciding(cascade.columns, "onnx-fp32", EPS)}
    replayed = cascade.matrix.worst_case(ENGINE, [c for c in cascade.columns if c.record.source == "S1" and c.eps <= EPS])
    exact = survives(targets[2].module, data, EPS)
    found = robust(cascade, ENGINE)
    assert replayed.sum() > found.sum(), "the twin's sets alone flatter the engine"
    assert (exact <= found).all() and (exact != found).mean() <= 0.05


def test_an_engine_that_answers_to_the_bit_as_another_inherits_its_sets(linear: tuple[nn.Module, Dataset], tmp_path: Path) -> None:
    model, data = linear

    class Asked(ModuleTarget):
        pass

    near, far = nearly(model, 0.05), nearly(model, 0.06)
    engines = {name: Asked(module, name, Access.SCORES) for name, module in ((ENGINE, near), ("same", near), ("other", far))}
    where = replace(context(model, data, engines, ("fgsm",)), inherits=True)
    cascade = run(tmp_path / "run", where)
    by_engine = {name: [c.record for c in cascade.columns if c.record.source == "S4" and c.record.target == name] for name in engines}
    assert [r.inherited_from for r in by_engine["same"]] == [ENGINE] * 3
    assert [r.set_sha256 for r in by_engine["same"]] == [r.set_sha256 for r in by_engine[ENGINE]]
    assert {r.inherited_from for r in by_engine[ENGINE] + by_engine["other"]} == {None}
    assert not lacking(complete(deciding(cascade.columns, "same", EPS), "same"), own_graph=False)
    alone = run(tmp_path / "alone", context(model, data, {"same": engines["same"]}, ("fgsm",)))
    np.testing.assert_array_equal(
        cascade.matrix.worst_case("same", deciding(cascade.columns, "same", EPS)),
        alone.matrix.worst_case("same", deciding(alone.columns, "same", EPS)),
    )
    unasked = run(tmp_path / "not", replace(where, inherits=False))
    assert {c.record.inherited_from for c in unasked.columns} == {None}
