"""A report is one file that needs nothing else, shows what it was given, and runs nothing it was given."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from visionft import plots
from visionft.report import Report, cell, interval

EVIL = '<script>alert("x")</script>'


@pytest.fixture
def full():
    """One of each section, with a hostile name wherever a name can be given."""
    report = Report(EVIL, subtitle=EVIL)
    report.heading(EVIL)
    report.text(EVIL)
    report.facts({EVIL: EVIL, "seed": 0})
    report.table([EVIL, "accuracy"], [[EVIL, (0.85, 0.82, 0.88)], ["majority", 0.67]], caption=EVIL, note=EVIL)
    report.figure(plots.confusion(np.eye(2, dtype=int), [EVIL, "good"]), caption=EVIL)
    report.figure(plots.roc({EVIL: (np.array([0, 1]), np.array([0, 1]), 0.5)}), alt=EVIL)
    report.gallery([(np.zeros((4, 4, 3), np.uint8), EVIL)], caption=EVIL)
    return report


class Tags(HTMLParser):
    """Collects tags with their attributes, and checks that they nest."""

    def __init__(self, html):
        super().__init__()
        self.seen, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_names_are_escaped_everywhere(full):
    html = full.html()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 12


def test_every_tag_is_closed(full):
    assert Tags(full.html()).open == []


def test_the_file_asks_for_nothing_from_outside(full):
    html = full.html()
    for tag, attributes in Tags(html).seen:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"@import|url\((?!#)", html)


def test_every_picture_has_words_for_those_who_cannot_see_it(full):
    pictures = [(tag, attributes) for tag, attributes in Tags(full.html()).seen if tag in {"svg", "img"}]
    assert len(pictures) == 3
    assert all(attributes.get("alt") or attributes.get("aria-label") for _, attributes in pictures)


def test_figures_use_the_colours_of_the_page_and_the_same_file_is_written_twice(full):
    html = full.html()
    drawn = html[html.index("<svg") :]
    assert plots.INK not in drawn
    assert "var(--ink)" in drawn
    assert html == full.html()


def test_a_figure_of_someone_else_keeps_its_own_background():
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    report = Report("x")
    report.figure(figure, caption="a line")
    assert "fill: #ffffff" in report.html()


def test_names_in_scripts_that_matplotlib_has_no_font_for_are_kept():
    report = Report("x")
    report.figure(plots.confusion(np.eye(2, dtype=int), ["良品", "不良"]))
    assert "不良</text>" in report.html()


def test_pictures_survive_the_way_into_the_file():
    pixels = np.zeros((512, 256, 3), np.uint8)
    pixels[..., 0] = 250
    report = Report("x")
    report.gallery([(pixels, "red"), (pixels[..., 0], "grey"), (pixels[..., :1], "grey too")])
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]+)", report.html())
    red, grey, also = (Image.open(io.BytesIO(base64.b64decode(data))) for data in encoded)
    assert red.size == (128, 256)
    assert np.abs(np.asarray(red).mean(axis=(0, 1)) - [250, 0, 0]).max() < 3
    assert np.array_equal(grey, also)


def test_the_bytes_of_a_png_are_embedded_as_they_are():
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, "PNG")
    report = Report("x")
    report.figure(buffer.getvalue(), caption="black")
    (data,) = re.findall(r"data:image/png;base64,([^\"]+)", report.html())
    assert base64.b64decode(data) == buffer.getvalue()


@pytest.mark.parametrize(
    ("value", "shown", "bounds"),
    [
        (0.85, "0.850", ""),
        (-0.5, "−0.500", ""),
        (3e-5, "3e-05", ""),
        (12345, "12,345", ""),
        (0.0, "0.000", ""),
        (True, "True", ""),
        (None, "–", ""),
        ((0.8518, 0.8229, 0.8801), "0.852", "0.823 – 0.880"),
    ],
)
def test_values_are_written_so_that_they_align(value, shown, bounds):
    assert (cell(value), interval(value)) == (shown, bounds)


def test_a_value_without_interval_stands_under_those_with_one():
    report = Report("x")
    report.table(["model", "accuracy"], [["probe", (0.8, 0.7, 0.9)], ["majority", 0.6]])
    rows = re.findall(r"<tr>.*?</tr>", report.html())
    assert 'class="interval" colspan="2">accuracy' in rows[0]
    assert rows[2].endswith('<td class="interval">0.600</td><td class="bounds"></td></tr>')


def test_an_empty_table_shows_its_headers():
    report = Report("x")
    report.table(["model", "accuracy"], [])
    assert ">accuracy</th>" in report.html()


def test_writing_replaces_the_old_report_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert Report("Title").write(path) == path
    assert "<h1>Title</h1>" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
