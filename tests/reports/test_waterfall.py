"""The chapter on where the robustness goes: every figure is the record's, and a flavour without a step between has no waterfall."""

from __future__ import annotations

import re

from synthetic import make_run, share

from harness.records import Decomposition, Gap, Level, Replay, Waterfall
from reports.run import Run
from reports.sections import decomposition
from reports.sections.decomposition import LEVELS
from reports.waterfall import waterfalls

N = 200
LOST = Gap(gap=0.06, lower=0.01, upper=0.11)
REPLAYS = [
    Replay(made_for="twin", shown_to="ort-int8", fooled=share(30, 60)),
    Replay(made_for="ort-int8", shown_to="twin", fooled=share(3, 15)),
]
GAINED = Gap(gap=-0.02, lower=-0.05, upper=0.01)


def falling(engine: str, *names: str) -> Decomposition:
    counts = {"parent": 110, "twin": 98, "quantized": 86, "simulated": 86, "engine": 90, "rebuild": 78}
    levels = []
    for place, name in enumerate(names):
        lost = None if place == 0 else GAINED if name == "engine" else LOST
        levels.append(Level(name=name, model=engine if name == "engine" else name, robust=share(counts[name], N), lost=lost))
    fall = Waterfall(under="adaptive", sets=["S1 pgd"], levels=levels)
    return Decomposition(engine=engine, eps_exact="8/255", n=N, replay=GAINED, adaptive=LOST, waterfalls=[fall], note="told once")


def run_with(tmp_path, **more) -> Run:
    make_run(tmp_path / "run", **more)
    return Run.open(tmp_path / "run")


def test_every_step_is_a_row_and_a_bar(tmp_path):
    found = [falling("ort-int8", *LEVELS), falling("onnx-fp32", "twin", "engine")]
    run = run_with(tmp_path, decompositions=found, replays=REPLAYS)
    built = decomposition.section(run)
    assert built is not None and built.paragraphs.count("told once") == 1
    gaps, steps, replays = built.tables
    assert [cell.text for cell in gaps.rows[0]] == ["ort-int8", "8/255", "−2.0 [−5.0, +1.0]", "+6.0 [+1.0, +11.0]", "200"]
    assert [row[2].text for row in steps.rows] == [*LEVELS.values(), LEVELS["twin"], LEVELS["engine"]]
    assert [row[4].text.split(" [")[0] for row in steps.rows[:6]] == ["55.0 %", "49.0 %", "43.0 %", "43.0 %", "45.0 %", "39.0 %"]
    assert [row[5].text[:4] for row in steps.rows[:6]] == ["–", "+6.0", "+6.0", "+6.0", "−2.0", "+6.0"]
    assert [[cell.text[:8].rstrip(" [") for cell in row] for row in replays.rows] == [["twin", "–", "50.0 %"], ["ort-int8", "20.0 %", "–"]]
    ((svg, caption),) = waterfalls(run)
    assert "ort-int8" in caption and "n = 200" in caption
    label = re.search('aria-label="([^"]*)"', svg)
    assert label is not None and "quantized: 43.0 %, lost +6.0; simulated" in label[1]


def test_a_run_without_attacks_has_no_such_chapter(tmp_path):
    assert decomposition.section(run_with(tmp_path, attacked=False)) is None


def test_an_engine_that_did_not_run_says_so(tmp_path):
    run = run_with(tmp_path, unrun=True, decompositions=[falling("ort-int8", "twin", "quantized", "engine")])
    built = decomposition.section(run)
    assert built is not None
    assert all("not run" in row[0].text for table in built.tables for row in table.rows)
    ((_, caption),) = waterfalls(run)
    assert "not run" in caption
