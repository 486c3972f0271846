from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from synthetic import HOSTILE, make_run

from harness.records import RunRecord
from reports.format import NONE
from reports.glossary import TERMS, parts
from reports.render import render
from reports.run import Run
from reports.sections import sections

pytestmark = pytest.mark.slow(20)

VARIANTS = ["plain", "hostile", "synthetic", "emulated", "alike", "unfinished", "bare"]
INLINE = {"a", "span", "code"}
VOID = {"meta", "link", "img", "path", "use", "rect"}


class Page(HTMLParser):
    """The elements of a page, its visible text, and whether every element is closed by its own end tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in INLINE:
            self.text.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(params=VARIANTS)
def page(request, rendered) -> Page:
    return Page(rendered(request.param, "html").read_text())


def text_of(rendered, variant: str) -> str:
    return "".join(Page(rendered(variant, "html").read_text()).text).replace("\u00a0", " ")


def test_every_element_is_closed(page):
    assert page.open == []


def test_nothing_is_asked_of_the_network_and_nothing_runs(page):
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                assert value.startswith(("#", "data:")), f"{tag} {name}={value}"
            if name == "style":
                assert "url(" not in re.sub(r"url\(#\w+\)", "", value)


def test_the_style_sheet_loads_nothing(rendered):
    style = re.search(r"<style>(.*?)</style>", rendered("plain", "html").read_text(), re.DOTALL)[1]
    assert "@import" not in style and "url(" not in style and "http" not in style


def test_a_policy_forbids_what_the_page_does_not_need(page):
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_no_other_style_sheet_than_ours_is_allowed(rendered):
    raw = rendered("hostile", "html").read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", raw, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src-elem 'sha256-{digest}'" in raw


def test_identifiers_are_unique_and_every_anchor_has_its_target(page):
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {link["href"][1:] for link in page.all("a")} <= set(identifiers)


def test_tables_figures_and_pictures_can_be_read_aloud(page):
    for header in page.all("th"):
        assert header.get("scope") in {"row", "col"}
    for picture in page.all("img"):
        assert picture["alt"]
    for figure in page.all("svg"):
        assert figure["role"] == "img" and figure["aria-label"]
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[:2] == [1, 2] and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_page_has_landmarks_and_a_way_past_the_head(page):
    assert [len(page.all(tag)) for tag in ("header", "main", "nav")] == [1, 1, 1]
    assert page.all("a")[0]["href"] == "#verdict"
    for section in page.all("section"):
        assert section.get("aria-labelledby") or section.get("aria-label")


def test_no_number_is_unrounded(rendered):
    for variant in VARIANTS:
        assert not re.findall(r"\d\.\d{6,}", text_of(rendered, variant))


def test_no_column_and_no_setting_is_all_dashes(rendered):
    for section in sections(Run.open(rendered("plain", "html").parent)):
        for table in section.tables:
            for i, column in enumerate(table.columns):
                assert not table.rows or i == 0 or any(row[i].text != NONE for row in table.rows), (table.title, column)
            assert len(table.columns) > 2 or all(row[1].text != NONE for row in table.rows), table.title


def test_jargon_is_one_link_and_one_hover_away(rendered):
    page = Page(rendered("plain", "html").read_text())
    linked = {link["href"][1:]: link["title"] for link in page.all("a") if link.get("class") == "term"}
    for word in ("twin", "STE twin", "S0", "S1", "S3", "S4", "gate", "Holm", "Tango", "engine", "flavour", "ε", "Pareto front", "cascade"):
        (term,) = [term for term in TERMS if term.word == word]
        assert linked[term.anchor] == term.meaning


@pytest.mark.parametrize(
    ("text", "seen", "expected"),
    [
        ("the twin and the twin", (), ["twin"]),
        ("the STE twin", (), ["STE twin"]),
        ("ort-int8 and int8, clean.npz, S3x", (), ["INT8"]),
        ("twins (S3)", ("twin",), ["S3"]),
        ("apgd-ce-100 after pgd-5", (), ["Auto-PGD", "PGD"]),
    ],
)
def test_a_word_is_explained_where_it_stands_first(text, seen, expected):
    pieces = parts(text, set(seen))
    assert "".join(piece for piece, _ in pieces) == text
    assert [term.word for _, term in pieces if term] == expected


def test_hostile_names_are_shown_not_obeyed(rendered):
    raw, text = rendered("hostile", "html").read_text(), text_of(rendered, "hostile")
    visible = HOSTILE.replace("\x1b", "�").replace("\u202e", "�")
    assert "<script" not in raw and "49" not in raw.partition("<h1>")[2].partition("</h1>")[0]
    assert text.count(visible) >= 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_fact_of_the_tables_is_on_the_page(rendered, variant):
    text = text_of(rendered, variant)
    run = Run.open(rendered(variant, "html").parent)
    for section in sections(run):
        assert section.title in text or section.key == "verdict"
        for table in section.tables if section.key != "flipped" else ():
            assert table.title in text
            for row in table.rows:
                for cell in row:
                    assert cell.text in text, (section.key, table.title, cell.text)


# Where raw values lie, and words that the report puts into its own.
UNSHOWN = {"raw", "unit", "source", "norm", "status"}


def strings(value, key: str = ""):
    """Every text of a nested record, but for the keys of `UNSHOWN`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from strings(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner, key)
    elif isinstance(value, str) and key not in UNSHOWN:
        yield value


def test_every_text_of_the_record_is_on_the_page(rendered):
    text = text_of(rendered, "plain")
    record = RunRecord.load(rendered("plain", "html").parent)
    gates = [gate.model_copy(update={"remedy": ""} if gate.passed is not False else {}) for gate in record.gates]
    attacks = [attack for attack in record.attacks if attack.norm == "Linf"]
    shown = record.model_copy(update={"gates": gates, "attacks": attacks, "command": []}).model_dump(mode="json")
    shown["transfer"] = [t for t in shown["transfer"] if t["attack"] != "cw-l2"]
    assert [string for string in strings(shown) if string not in text] == []


def test_the_verdict_comes_first(rendered):
    text = text_of(rendered, "plain")
    order = ("NOT REFUTED BY TRANSFER", "Nothing here refutes", "Failed gates", "The numbers that decide", "What was not measured")
    order += ("Device and runtime", "Signatures", "How it was decided", "Contents of the evidence", "Engines side by side", "Glossary")
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_figures_are_drawn_in_the_colours_of_the_page(rendered):
    raw = rendered("plain", "html").read_text()
    drawings = re.findall(r'<svg class="plot".*?</svg>', raw, re.DOTALL)
    assert len(drawings) == 10  # gap, security curve, three Pareto fronts, three batches, distance curve, cascade
    for drawing in drawings:
        assert not re.search(r"(fill|stroke): #", drawing), "a colour that dark mode cannot change"
        assert "var(--ink" in drawing


def test_a_synthetic_device_is_marked_in_every_section_and_figure(rendered):
    raw = rendered("synthetic", "html").read_text()
    for heading in re.findall(r"<h2.*?</h2>", raw, re.DOTALL):
        assert "SYNTHETIC" in heading
    for drawing in re.findall(r'<svg class="plot".*?</svg>', raw, re.DOTALL):
        assert ">SYNTHETIC</text>" in drawing
    markdown = rendered("synthetic", "md").read_text()
    assert all("SYNTHETIC" in line for line in markdown.splitlines() if line.startswith(("# ", "## ")))


@pytest.mark.parametrize("name", ["html", "md"])
def test_an_emulated_device_shows_no_duration_anywhere(rendered, name):
    text = text_of(rendered, "emulated") if name == "html" else rendered("emulated", "md").read_text()
    assert not re.search(r"\d\s*(ms|µs|ns)\b|Images/s|Latency of one call|Latency at batch", text)
    assert "EMULATED: numerics only" in text and "withheld (emulated)" in text
    record = RunRecord.load(rendered("emulated", "html").parent)
    for engine in record.engines:
        for latency in engine.latency.values():
            assert f"{latency.p50:.3g}" not in re.findall(r"\d+\.\d+", text)


def test_a_withheld_percentile_says_why(rendered):
    text = text_of(rendered, "plain")
    assert "withheld (n=100)" in text and "p99.9 6,636" in text


def test_a_failed_engine_is_shown_with_its_error(rendered):
    text = text_of(rendered, "hostile")
    assert "1 of 3 engines failed" in text and "crashed: the worker's process died" in text and "SIGSEGV" in text


def test_the_gallery_shows_three_pictures_of_every_chosen_flip(rendered):
    page = Page(rendered("plain", "html").read_text())
    kinds = [picture["alt"].split(" image")[0].split(" ×")[0] for picture in page.all("img")]
    assert kinds == ["clean", "attacked", "difference"] * 12


def test_no_flip_and_no_attack_are_said_in_words(rendered):
    assert "No image flipped" in text_of(rendered, "alike")
    assert "Nothing was attacked" in text_of(rendered, "unfinished")
    assert "No engine has been run" in text_of(rendered, "bare")


def test_the_command_is_quoted_for_the_shell(rendered):
    assert "harness bench --model resnet18x16-at --data 'my images'" in text_of(rendered, "plain")


def test_grey_images_are_shown(tmp_path):
    import numpy as np

    rng = np.random.default_rng(1)
    make_run(tmp_path / "run", images=rng.integers(0, 256, (96, 9, 7, 1), dtype=np.uint8), labels=rng.integers(0, 10, 96))
    assert render(tmp_path / "run", ["html"])["html"].read_text().count("data:image/png") == 36
