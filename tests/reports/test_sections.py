"""What single chapters say of runs that differ in one thing."""

from __future__ import annotations

import re
import shlex

import pytest
from synthetic import make_run

from harness.audit.statistics import mcnemar_p
from harness.records import NoiseFloor, RunRecord, SeededTransfer, Verdict
from reports.format import significant
from reports.markdown import to_markdown
from reports.run import Run
from reports.sections import engines, provenance, robustness, scope, sections


@pytest.mark.parametrize("tier", ["quick", "bench", "qualify"])
def test_what_no_tier_runs_is_listed_in_every_tier(tmp_path, tier):
    listed = [what for what, _ in scope.not_run(make_run(tmp_path / "run", tier=tier))]
    assert "Repeated builds and repeated attack seeds" in listed
    assert any("temperature" in what for what in listed)
    assert any("APGD-T" in what for what in listed)
    assert [source for source in ("S2", "S3", "S4", "S5", "S6") if any(f"({source}" in what for what in listed)] == ["S2", "S4", "S5", "S6"]


def test_targeted_auto_pgd_is_not_missed_where_autoattack_holds_it(tmp_path):
    record = make_run(tmp_path / "run")
    whole = record.model_copy(update={"attacks": [attack.model_copy(update={"name": "autoattack"}) for attack in record.attacks]})
    assert not any("APGD-T" in what for what, _ in scope.not_run(whole))


def test_engines_that_were_built_again_and_attacks_with_other_seeds_are_no_limit(tmp_path):
    record = make_run(tmp_path / "run")
    again = record.model_copy(update={"engines": [engine.model_copy(update={"build": 1}) for engine in record.engines]})
    listed = [what for what, _ in scope.not_run(again)]
    assert "Repeated attack seeds" in listed and not any("builds" in what for what in listed)
    first = record.attacks[0]
    seeded = again.model_copy(update={"attacks": [*record.attacks, first.model_copy(update={"seed": first.seed + 1})]})
    assert not any("Repeated" in what for what, _ in scope.not_run(seeded))


def test_seeds_noise_and_inherited_sets_are_told(tmp_path):
    record = make_run(tmp_path / "run")
    t, first = record.transfer[0], record.attacks[0]
    seeded = SeededTransfer(
        engine=t.engine,
        source="S1",
        target="twin",
        attack=t.attack,
        eps_exact=t.eps_exact,
        seeds=[5, 6, 7],
        transfer_rate=0.5,
        ci95=(0.4, 0.6),
    )
    noise = NoiseFloor(n=40, eps_exact="8/255", right=[30, 34], minimum=0.75, mean=0.8, maximum=0.85, ci95=(0.2, 1.0), worst=0.7)
    theirs = first.model_copy(update={"source": "S4", "target": "ort-int8#2", "inherited_from": "ort-int8"})
    changes = {"seeded": [seeded], "noise": noise, "attacks": [*record.attacks, theirs]}
    record.model_copy(update=changes).save(tmp_path / "run")
    text = to_markdown(Run.open(tmp_path / "run"))
    assert "| 5, 6, 7 | 50.0 % [40.0, 60.0] |" in text
    assert "from 75.0 % to 85.0 %; the worst draw of each image leaves 70.0 %" in text
    assert "The attacks on ort-int8#2 itself (S4) are those on ort-int8" in text.replace("\\", "")


@pytest.mark.parametrize(
    ("words", "repeated"),
    [
        (["--out", "my runs/first"], []),
        (["--out=my runs/first", "--seed", "1"], ["--seed", "1"]),
        (["--resume", "runs/a", "--samples", "8", "--out", "runs/b"], ["--samples", "8"]),
        (["--model", "my nets/a b.onnx", "--outer"], ["--model", "my nets/a b.onnx", "--outer"]),
        (["--seed", "1", "--out"], ["--seed", "1"]),
    ],
)
def test_the_command_to_repeat_names_no_folder_that_exists(tmp_path, words, repeated):
    make_run(tmp_path / "run", command=["harness", "bench", *words])
    assert shlex.split(provenance.repeat(Run.open(tmp_path / "run")).code) == ["harness", "bench", *repeated]


def test_an_engine_that_did_not_run_says_so_in_every_table_that_names_it(tmp_path):
    record = make_run(tmp_path / "run", emulated=True, unrun=True)
    over = {"engine": "ort-int8", "source": "S1", "target": "twin", "attack": "pgd", "eps_exact": "8/255", "seeds": [0, 1]}
    seeded = SeededTransfer(**over, transfer_rate=0.5, ci95=(0.4, 0.6))
    record.model_copy(update={"seeded": [seeded]}).save(tmp_path / "run")
    text = to_markdown(Run.open(tmp_path / "run"))
    rows = [line for line in text.splitlines() if line.startswith("|") and "ort-int8" in re.sub(r"S3(, | · |-)ort-int8", "", line)]
    assert len(rows) > 20
    assert all("(simulated, not run)" in row for row in rows)
    assert "NOT RUN: the answers of ort-int8" in text


def test_every_latency_has_its_floor_beside_it_and_the_distance_to_it(tmp_path):
    record = make_run(tmp_path / "run")
    section = engines.section(Run.open(tmp_path / "run"))
    (timed,) = [table for table in section.tables if table.title.startswith("Latency of one call")]
    (floors,) = [table for table in section.tables if "estimate" in table.title]
    at = [cell for cell in timed.columns if "loor" in cell]
    assert at == ["Floor (estimate)", "p50 / floor"]
    shown = {(row[0].text, row[1].text): [row[timed.columns.index(name)].text for name in at] for row in timed.rows}
    for engine in record.engines:
        for batch, latency in engine.latency.items():
            floor = 2 * 35e6 * int(batch) / engine.roofline.operations_per_s * 1e3
            assert shown[engine.flavour, batch] == [significant(floor), f"{significant(latency.p50 / floor)} ×"]
    assert [row[0].text for row in floors.rows] == [engine.flavour for engine in record.engines]


def test_a_floor_below_what_launching_a_call_takes_is_not_told(tmp_path):
    record = make_run(tmp_path / "run").model_dump(mode="json", by_alias=True)
    for engine in record["engines"]:
        for floor in engine["roofline"]["floors"].values():
            floor["ms"] = 3.02e-06
    RunRecord.model_validate(record).save(tmp_path / "run")
    section = engines.section(Run.open(tmp_path / "run"))
    (timed,) = [table for table in section.tables if table.title.startswith("Latency of one call")]
    (floors,) = [table for table in section.tables if "estimate" in table.title]
    assert "Floor (estimate)" not in timed.columns and "p50 / floor" not in timed.columns
    assert all("3.02e-06" not in cell.text for table in (timed, floors) for row in table.rows for cell in row)
    assert floors.rows[0][1].text.startswith("batch 1: below 0.0100 ms")


def test_kernels_parts_of_a_call_and_device_memory_are_shown_where_an_engine_has_them(tmp_path):
    make_run(tmp_path / "run", accelerator=True)
    tables = {table.title: table for table in engines.section(Run.open(tmp_path / "run")).tables}
    assert [[cell.text for cell in row] for row in tables["Kernels of the engine"].rows] == [
        ["ort-int8", "int8", "50.0 %", "75.0 %", "96.0 %"],
        ["ort-int8", "unknown", "50.0 %", "25.0 %", "4.0 %"],
        ["ort-int8", "sparse", "25.0 %", "12.5 %", "30.0 %"],
    ]
    assert [cell.text for cell in tables["Where the time of a call goes (ms)"].rows[0]] == [
        "ort-int8", "1", "host to device", "0.0300", "0.0400", "0.0310",
    ]  # fmt: skip
    last = tables["Where the time of a call goes (ms)"].rows[-1]
    assert [cell.text for cell in last[:4]] == ["ort-int8", "8", "compute (trtexec)", "0.0300"]
    assert "5.00 MiB" in [cell.text for cell in tables["Size, memory and loading"].rows[1]]


def test_beside_the_verdict_stand_the_ratio_with_its_interval_and_mcnemars_p(tmp_path):
    record = make_run(tmp_path / "run")
    (reasons,) = [table for table in robustness.section(Run.open(tmp_path / "run")).tables if table.title == "Claims in words"]
    for claim, transfer, row in zip(record.claims, [t for t in record.transfer if t.attack == "apgd-dlr"], reasons.rows, strict=True):
        assert row[3].text.startswith(f"{100 * transfer.engine_accuracy / transfer.twin_accuracy:.1f} % [")
        assert row[4].text[:3] == f"{mcnemar_p(transfer.flips.twin_only, transfer.flips.engine_only):#.3g}"[:3]
        assert claim.mcnemar_p == pytest.approx(mcnemar_p(transfer.flips.twin_only, transfer.flips.engine_only))


@pytest.mark.parametrize(
    ("settings", "claimed", "expected"),
    [
        ({"eps": "4/255"}, "8/255", "8/255"),
        ({}, "8/255", "8/255 (the network's own claim)"),
        ({}, None, "8/255 (assumed: no --eps was given)"),
    ],
)
def test_where_the_radius_comes_from_is_said(tmp_path, settings, claimed, expected):
    from reports.sections.setting import section

    record = make_run(tmp_path / "run", settings=settings)
    record = record.model_copy(update={"model": record.model.model_copy(update={"claimed_eps": claimed})})
    (table,) = section(Run(tmp_path / "run", record)).tables
    assert {row[0].text: row[1].text for row in table.rows}["Radius ε"] == expected


def test_the_reason_of_an_untrusted_run_stands_once_above_its_evidence(tmp_path):
    record = make_run(tmp_path / "run")
    claims = [claim.model_copy(update={"verdict": Verdict.UNTRUSTED, "reason": "A gate failed: 'one' (so)."}) for claim in record.claims]
    record.model_copy(update={"claims": claims, "verdict": Verdict.UNTRUSTED}).save(tmp_path / "run")
    first = sections(Run.open(tmp_path / "run"))[0]
    assert first.paragraphs[0] == "A gate failed: the figures below decide nothing."
    assert [item.text for item in first.lists[0].items] == ["A gate failed: 'one' (so)."]


def test_the_rows_of_the_cascade_have_the_numbers_of_its_figure(tmp_path):
    make_run(tmp_path / "run")
    (table,) = next(section for section in sections(Run.open(tmp_path / "run")) if section.key == "cascade").tables
    assert [row[1].text for row in table.rows] == [str(place) for place in range(len(table.rows))] and len(table.rows) > 3
