"""The golden file is the specification of report.md, of a real run. To accept a change: `python tests/reports/test_markdown.py`, then
read the diff.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.markdown import escape, to_markdown
from reports.run import Run

pytestmark = pytest.mark.slow(20)

GOLDEN = Path(__file__).parents[1] / "golden" / "report.md"


def test_the_report_of_a_real_run_is_the_golden_one(tmp_path):
    from real_run import report

    assert report(tmp_path) == GOLDEN.read_text()


@pytest.mark.parametrize("variant", ["plain", "hostile", "synthetic", "emulated", "unrun", "accelerator", "alike", "unfinished", "bare"])
def test_every_row_has_the_cells_of_its_header(rendered, variant):
    lines = rendered(variant, "md").read_text().splitlines()
    width = None
    for line in lines:
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        width = width or cells
        assert cells == width, line


@pytest.mark.parametrize("variant", ["plain", "hostile", "synthetic", "emulated", "unrun", "accelerator", "unfinished", "bare"])
def test_what_decides_fits_a_pull_request(rendered, variant):
    """All else is folded: it opens at a click."""
    before, fold, after = rendered(variant, "md").read_text().partition("<details>")
    assert fold and len(before.splitlines()) <= 60
    assert after.count("</details>") == 1 and after.endswith("</details>\n")
    assert "## Verdict" in before and "## Verdict" not in after
    assert "\n\n## " in after, "Markdown within HTML begins after a blank line"


def test_names_cannot_become_markup(rendered):
    whole = rendered("hostile", "md").read_text()
    fenced = re.findall(r"(?ms)^(`{3,})sh$.*?^\1$", whole)
    text = re.sub(r"(?ms)^(`{3,})sh$.*?^\1$", "", whole)
    ours = ("<details>", "<summary>", "</summary>", "</details>")
    assert "<" not in re.sub("|".join(ours), "", text) and "\x1b" not in text and "\u202e" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search(r"(?<!\\)`", text)
    assert len(fenced) == 2, "the next command, and that of this run"


def test_a_command_cannot_close_its_fence(tmp_path):
    from synthetic import make_run

    make_run(tmp_path / "run", command=["harness", "bench", "--model", "a\n````\n# not a heading"])
    tail = to_markdown(Run.open(tmp_path / "run")).partition("## How to repeat it")[2]
    assert tail.count("`````") == 2


@given(st.text(alphabet=st.sampled_from("ab_*`|\\[](){}<>&~! ")))
def test_escaped_text_reads_back_as_it_was(text):
    shown = re.sub(r"\\([\\`*|_\]~])", r"\1", escape(text).replace(r"\~~", "~~"))
    assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


@pytest.mark.parametrize("name", ["ort-int8", "avx512_vnni", "41.0 % [35.1, 47.1]", "p99.9"])
def test_common_text_stays_as_it_is(name):
    assert escape(name) == name


if __name__ == "__main__":
    sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    from real_run import report as real_report

    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(real_report(Path(temporary)))
