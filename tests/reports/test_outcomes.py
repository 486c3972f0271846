"""What is counted from samples.parquet must be what the record says, and what a loop over single images says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from synthetic import make_run

from harness.errors import UntrustedError
from reports.flips import SHOWN, chosen
from reports.outcomes import distance_curves, paired, wilson, worst_cases
from reports.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes") / "run"
    make_run(folder)
    return Run.open(folder)


def test_pairs_agree_with_every_transfer_of_the_record(run):
    rows = paired(run)
    for transfer in run.record.transfer:
        own = rows[(rows.engine == transfer.engine) & (rows.source == transfer.source) & (rows.target == transfer.target)]
        own = own[(own.attack == transfer.attack) & (own.eps == transfer.eps_exact)]
        flips = transfer.flips
        assert (own.twin_right & own.engine_right).sum() == flips.both_right
        assert (own.twin_right & ~own.engine_right).sum() == flips.twin_only
        assert (~own.twin_right & own.engine_right).sum() == flips.engine_only


def test_the_worst_case_is_that_of_a_loop_over_images(run):
    frame = run.samples
    for case in worst_cases(run):
        own = frame[(frame.engine == case.engine) & ~frame.source.isin(["gate", "S0"]) & (frame.attack != "cw-l2")]
        own = own[own.target.isin(["clean", "twin", case.engine])]
        radius = own.eps.map(Fraction)
        twin_right = engine_right = 0
        for index in range(run.record.data.n):
            image = own[own["index"] == index]
            seen = image[(image.attack == "clean") | (radius[image.index] <= case.eps)]
            twin_right += bool((seen.twin_prediction == seen.label).all())
            engine_right += bool((seen.engine_prediction == seen.label).all())
        assert (case.twin, case.right, case.n) == (twin_right, engine_right, run.record.data.n)


def test_the_worst_case_covers_every_radius_and_no_gate(run):
    radii = [case.eps for case in worst_cases(run) if case.engine == "ort-int8"]
    assert radii == [Fraction(0), *(Fraction(k, 255) for k in (1, 2, 4, 8))]


def test_a_distance_curve_falls_from_clean_to_attacked(run):
    curves = distance_curves(run)
    assert list(curves) == ["twin", "onnx-fp32", "ort-int8"]
    rows = paired(run)
    cw = rows[(rows.attack == "cw-l2") & (rows.engine == "ort-int8")]
    radii, kept, n = curves["ort-int8"]
    assert (np.diff(radii) > 0).all() and (np.diff(kept) <= 0).all()
    assert (kept[0], kept[-1], n) == (cw.engine_clean.sum(), cw.engine_right.sum(), len(cw))


def test_wilson_gives_the_published_interval():
    # Newcombe 1998, table I, method 3: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_chosen_flips_were_right_clean_and_part_under_attack(run):
    flips, total = chosen(run)
    rows = paired(run)
    both = rows[rows.twin_clean & rows.engine_clean & (rows.source != "S0")]
    assert total == (both.twin_right != both.engine_right).sum()
    assert len(flips) == min(SHOWN, both[both.twin_right != both.engine_right]["index"].nunique())
    assert len({flip.index for flip in flips}) == len(flips)
    assert all((flip.twin_prediction == flip.label) != (flip.engine_prediction == flip.label) for flip in flips)


def test_engines_that_were_fooled_alone_come_first(run):
    fooled = [flip.engine_prediction != flip.label for flip in chosen(run)[0]]
    assert fooled == sorted(fooled, reverse=True)


def test_a_file_outside_the_run_folder_is_refused(run):
    with pytest.raises(UntrustedError, match="outside the run folder"):
        run.image("../clean.npz", 0)


def test_a_damaged_image_file_is_named(run, tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run/adversarial/clean.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UntrustedError, match=r"clean\.npz is damaged"):
        Run.open(tmp_path / "run").image("adversarial/clean.npz", 0)


def test_samples_without_a_column_are_refused(tmp_path):
    make_run(tmp_path / "run")
    file = tmp_path / "run/samples.parquet"
    Run.open(tmp_path / "run").samples.drop(columns=["linf", "engine"]).to_parquet(file)
    with pytest.raises(UntrustedError, match="lacks the columns engine, linf"):
        _ = Run.open(tmp_path / "run").samples
