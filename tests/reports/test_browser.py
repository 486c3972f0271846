"""The page in a real browser: at the widths of a telephone, a tablet and a desk, and on A4 paper."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.skipif(BROWSER is None, reason="needs Chromium: no such programme was found"), pytest.mark.slow(60)]

FRAME = Path(__file__).with_name("frame.html")
A4_PX, A4_HIGH_PX = 688, 1017  # 210 and 297 mm less two margins of 14 mm, at 96 px per inch


def chromium(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    flags += f" --disable-sync --allow-file-access-from-files --enable-logging=stderr --user-data-dir={tmp_path / 'profile'}"
    return subprocess.run([BROWSER, *flags.split(), *arguments], capture_output=True, text=True, timeout=90, check=True)


def measured(page: Path, tmp_path: Path, width: int, *, paper: bool = False) -> dict:
    """What the browser sees at a width, in pixels."""
    frame, text = tmp_path / "frame.html", FRAME.read_text()
    for word, value in (("PAGE", page.as_uri()), ("WIDTH", str(width)), ("PAPER", str(paper).lower())):
        text = text.replace(word, value)
    frame.write_text(text)
    shown = chromium(tmp_path, "--window-size=1700,1000", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri())
    found = re.search(r'data-measured="([^"]*)"', shown.stdout)
    assert found, f"the page was not loaded: {shown.stderr}"
    assert "CONSOLE" not in shown.stderr, shown.stderr
    return json.loads(html.unescape(found[1]))


def on_paper(page: Path, tmp_path: Path) -> dict:
    """The same as it is printed on A4, in one long page."""
    paper, text = tmp_path / "paper.html", page.read_text()
    assert "@media print" in text
    changed = text.replace("@media print", "@media all")
    paper.write_text(re.sub(r"style-src-elem [^;]*;", "", changed))  # the hash was that of the style sheet as it was
    return measured(paper, tmp_path, A4_PX, paper=True)


def nothing_amiss(seen: dict, width: int) -> None:
    for fault in ("cut", "spilt", "overlap", "words"):
        assert seen[fault] == [], (fault, width)
    assert seen["wide"] <= width


@pytest.mark.parametrize("variant", ["plain", "hostile", "crowded", "bare"])
@pytest.mark.parametrize("width", [360, 1000, 1600])
def test_nothing_overlaps_or_is_cut_and_nothing_is_complained_of(rendered, tmp_path, variant, width):
    seen = measured(rendered(variant, "html"), tmp_path, width)
    nothing_amiss(seen, width)
    assert seen["broken"] == 0
    assert seen["sheet"] == 0, "what was measured on what is seen whole"
    assert seen["cues"] == seen["scrolls"], "a table that scrolls says so, and can be reached by the keyboard"
    if variant != "bare":
        assert seen["pictures"]
        assert seen["plot"] >= 300, "figures stay readable"
        assert width > 360 or seen["scrolling"], "else the cue was tried on nothing"


@pytest.mark.parametrize("variant", ["plain", "hostile", "crowded", "accelerator"])
def test_nothing_overlaps_or_is_cut_on_paper(rendered, tmp_path, variant):
    seen = on_paper(rendered(variant, "html"), tmp_path)
    nothing_amiss(seen, A4_PX)
    assert seen["scrolling"] == 0, "paper does not scroll"


def pages(page: Path, tmp_path: Path) -> int:
    """Printed on A4."""
    pdf = tmp_path / "page.pdf"
    chromium(tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", page.as_uri())
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


@pytest.mark.parametrize("variant", ["plain", "synthetic", "accelerator"])
def test_what_is_signed_takes_two_pages_and_the_evidence_begins_on_the_third(rendered, tmp_path, variant):
    whole = rendered(variant, "html")
    text = whole.read_text()
    sheet, first = tmp_path / "sheet.html", tmp_path / "first.html"
    sheet.write_text(re.sub(r'<div class="evidence".*</div>\s*(?=</main>)', "", text, flags=re.DOTALL))
    first.write_text(re.sub(r'<section id="claims".*</div>\s*(?=</main>)', "</div>", text, flags=re.DOTALL))
    assert (pages(first, tmp_path), pages(sheet, tmp_path)) == (1, 2)
    assert pages(whole, tmp_path) > 4
    assert on_paper(sheet, tmp_path)["claims"] > 0.55 * A4_HIGH_PX, "the second page is half empty"


def test_many_engines_gates_and_requirements_still_leave_the_signatures_on_the_second_page(rendered, tmp_path):
    first = tmp_path / "first.html"
    text = rendered("crowded", "html").read_text()
    first.write_text(re.sub(r'<section id="claims".*</div>\s*(?=</main>)', "</div>", text, flags=re.DOTALL))
    assert pages(first, tmp_path) == 2


def test_folded_tables_are_open_on_paper(rendered, tmp_path):
    text = rendered("plain", "html").read_text()
    opened = tmp_path / "opened.html"
    opened.write_text(text.replace("<details>", "<details open>"))
    assert pages(opened, tmp_path) == pages(rendered("plain", "html"), tmp_path)


def test_a_screenshot_is_not_blank(rendered, tmp_path):
    from PIL import Image

    shot = tmp_path / "shot.png"
    chromium(tmp_path, "--window-size=1280,900", f"--screenshot={shot}", rendered("plain", "html").as_uri())
    with Image.open(shot) as image:
        assert image.size == (1280, 900)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
