"""A record of a newer schema is rendered as far as this version can read it, under a banner; every other command refuses it."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic import make_run

from harness.errors import UntrustedError
from harness.records import SCHEMA, RunRecord
from reports.html import to_html
from reports.markdown import to_markdown
from reports.render import render
from reports.run import Run
from reports.salvage import Salvaged, salvage

pytestmark = [pytest.mark.slow(25), pytest.mark.usefixtures("figures_drawn_once")]

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "run"
    make_run(folder, rounds=5)
    return folder


@pytest.fixture
def raw(sound: Path) -> Iterator[dict[str, Any]]:
    """The record as it is stored; put back at the end."""
    text = (sound / "record.json").read_text()
    yield json.loads(text)
    (sound / "record.json").write_text(text)


def written(folder: Path, raw: dict[str, Any]) -> Path:
    (folder / "record.json").write_text(json.dumps(raw | {"schema": SCHEMA + 1, "harness_version": "9.8"}))
    return folder


def left(folder: Path, raw: dict[str, Any]) -> Salvaged:
    found = salvage(written(folder, raw))
    assert found is not None and found.record.verdict is None
    return found


def page(folder: Path) -> str:
    """The page of a newer record; that it was made does not make the run sound."""
    with pytest.raises(UntrustedError, match=rf"schema {SCHEMA + 1}; .* What could still be read was written") as caught:
        render(folder, ["html", "md"])
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    return re.sub(r"</?a\b[^>]*>", "", (folder / "report.html").read_text()).replace("\u00a0", " ")


def test_a_banner_says_which_version_wrote_it_and_what_was_left_out(sound, raw):
    raw["thermal_model"] = {"kind": "two bodies"}
    for engine in raw["engines"]:
        engine["cooler"] = "fan"
    shown = page(written(sound, raw))
    banner = shown[shown.index("<main>") : shown.index("</section>")]
    assert "RECORD OF A NEWER VERSION" in banner and "must not be signed" in banner
    assert f"(schema {SCHEMA + 1}, edge-harness 9.8)" in banner and f"reads schema {SCHEMA}" in banner
    assert f"not known here: engines[].cooler ({len(raw['engines'])}), thermal_model" in banner
    assert "The numbers that decide" in shown and "Signatures" not in shown
    markdown = (sound / "report.md").read_text()
    assert markdown.index("of a newer version") < markdown.index("thermal") < markdown.index("## The numbers that decide")


def test_all_that_this_version_knows_is_kept(sound, raw):
    before = RunRecord.load(sound)
    raw["attacks"][0]["cost"] = {"joule": 3}
    found = left(sound, raw)
    assert found.record == before.model_copy(update={"verdict": None, "harness_version": "9.8"})
    assert found.lost == "not known here: attacks[0].cost" and found.newer == f"schema {SCHEMA + 1}, edge-harness 9.8"


CHANGES: dict[str, tuple[Change, str]] = {
    "a field that need not be there": (lambda r: r["engines"][0].update(telemetry=[1]), "not as it is read here: engines[0].telemetry"),
    "a figure of one batch size": (
        lambda r: r["engines"][1]["latency"]["8"].update(p50={"ms": 1.0}),
        "not as it is read here: engines[1].latency.8",
    ),
    "a bound": (lambda r: r["transfer"][2].update(ci95=[0.1]), "not as it is read here: transfer[2]"),
    "a word of a list": (lambda r: r["claims"][0].update(sources=["S1", 7]), "not as it is read here: claims[0].sources"),
    "a verdict of another kind": (lambda r: r["claims"][1].update(verdict="HOLDS ON TUESDAYS"), "not as it is read here: claims[1]"),
    "two items of a list": (lambda r: (r["gates"][0].pop("limit"), r["gates"][2].pop("limit")), "not as it is read here: gates[] (2)"),
    "a list that became an object": (lambda r: r.update(gates={"parity": True}), "not as it is read here: gates"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_smallest_part_that_cannot_be_read_is_left_out_and_named_by_where_it_stood(sound, raw, name):
    change, expected = CHANGES[name]
    change(raw)
    assert left(sound, raw).lost == expected


def test_of_a_list_that_loses_items_in_several_steps_the_stored_positions_are_named(sound, raw):
    raw["gates"][0].pop("limit")
    raw["transfer"][1]["n"] = "many"
    raw["gates"][2]["passed"] = {"by": "hand"}  # taken away at first, and missed only then
    found = left(sound, raw)
    assert found.lost == "not as it is read here: gates[] (2), transfer[1]"
    assert [gate.name for gate in found.record.gates] == [gate["name"] for place, gate in enumerate(raw["gates"]) if place not in (0, 2)]


@pytest.mark.parametrize("field", ["seed", "tier", "environment", "settings", "created", "command", "harness_version"])
def test_a_head_without_a_field_costs_what_is_drawn_from_it(sound, raw, field):
    del raw[field]
    (sound / "record.json").write_text(json.dumps(raw | {"schema": SCHEMA + 1}))
    shown = page(sound)
    assert f"not there: {field}" in shown and "Gates and warnings" in shown


def test_a_device_that_may_be_emulated_has_no_latency_shown(sound, raw):
    del raw["device"]["emulated"]
    shown = page(written(sound, raw))
    assert "not there: device.emulated" in shown and "DEVICE NOT READ" in shown
    assert "latency by round" in shown.partition("</section>")[0] and "How it was decided" in shown
    assert not re.search(r"\d ms\b", (sound / "report.md").read_text())


@pytest.mark.parametrize("head", ["model", "device", "data"])
def test_a_head_that_is_written_in_another_way_leaves_the_rest(sound, raw, head):
    raw[head] = [raw[head]]
    shown = page(written(sound, raw))
    assert f"not there: {head}" in shown and "Glossary" in shown
    assert sound.name in shown.partition("</h1>")[0] or head == "data"


def test_a_newer_record_that_is_cut_off_too_is_read_as_far(sound, raw):
    text = written(sound, raw).joinpath("record.json").read_text()
    (sound / "record.json").write_text(text[: int(0.7 * len(text))])
    found = salvage(sound)
    assert found is not None and found.newer and "all that followed where it is cut off" in found.lost


@pytest.mark.parametrize("schema", [SCHEMA - 1, 0, -1, None, True, str(SCHEMA + 1), SCHEMA + 1.0, [SCHEMA + 1]])
def test_an_older_schema_and_what_is_no_number_are_refused(sound, raw, schema):
    (sound / "record.json").write_text(json.dumps(raw | {"schema": schema}))
    with pytest.raises(UntrustedError, match="this version reads schema"):
        render(sound, ["html"])


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a record, one item of each list and one value of each mapping with alike ones."""
    yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list) and value:
        yield from places(value[-1], (*place, len(value) - 1))


def changed(raw: dict[str, Any], place: tuple[Any, ...], rng: random.Random) -> dict[str, Any]:
    """The record with that place gone, of another type, or with a field more."""
    other = copy.deepcopy(raw)
    part = other
    for key in place[:-1]:
        part = part[key]
    value = part[place[-1]]
    what = rng.choice(["gone", "wrapped", "word", "number"])
    if what == "gone":
        del part[place[-1]]
    else:
        part[place[-1]] = {"wrapped": {"value": value, "unit": "?"}, "word": "another word", "number": 1e9}[what]
    if isinstance(value, dict):
        value["a field of tomorrow"] = [1, {"a": None}]
    return other


def test_no_change_of_any_field_stops_the_report(sound, raw):
    rng = random.Random(0)
    every = [place for place in places(raw) if place and place != ("schema",)]
    assert len(every) > 200
    for place in every:
        left(sound, changed(raw, place, rng))
    for place in rng.sample(every, 25):
        run = Run.open_what_is_left(written(sound, changed(raw, place, rng)))
        text = to_markdown(run)
        assert "of a newer version" in text.partition("##")[2][:400], place
    for place in rng.sample(every, 5):
        assert "RECORD OF A NEWER VERSION" in to_html(Run.open_what_is_left(written(sound, changed(raw, place, rng)))), place
