"""The page in a real browser, at the widths of a telephone and of a desk."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium: no such programme was found")

# The report in a frame of the wanted width; what it measures is written into the document and read back.
FRAME = """<!DOCTYPE html><iframe id="frame" src="{page}" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>onload = () => {{
  const page = document.getElementById("frame").contentDocument, plots = [...page.querySelectorAll("svg.plot")];
  document.body.dataset.measured = JSON.stringify([
    page.scrollingElement.scrollWidth, page.images.length, [...page.images].filter(i => !i.naturalWidth).length,
    Math.min(9999, ...plots.map(p => Math.round(p.getBoundingClientRect().width))),
  ]);
}}</script>"""


def chromium(tmp_path, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    flags += f" --disable-sync --allow-file-access-from-files --enable-logging=stderr --user-data-dir={tmp_path / 'profile'}"
    return subprocess.run([BROWSER, *flags.split(), *arguments], capture_output=True, text=True, timeout=90, check=True)


@pytest.mark.parametrize("variant", ["plain", "hostile"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_width_and_complains_of_nothing(rendered, tmp_path, variant, width):
    page = rendered(variant, "html")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width))
    shown = chromium(tmp_path, "--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri())
    measured = re.search(r'data-measured="\[(\d+),(\d+),(\d+),(\d+)\]"', shown.stdout)
    assert measured, "the page was not loaded"
    scroll, pictures, broken, narrowest = map(int, measured.groups())
    assert scroll <= width
    assert pictures and not broken
    assert narrowest >= 300  # figures stay readable
    assert "CONSOLE" not in shown.stderr, shown.stderr


def test_a_screenshot_is_not_blank(rendered, tmp_path):
    from PIL import Image

    shot = tmp_path / "shot.png"
    chromium(tmp_path, "--window-size=1280,900", f"--screenshot={shot}", rendered("plain", "html").as_uri())
    with Image.open(shot) as image:
        assert image.size == (1280, 900)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
