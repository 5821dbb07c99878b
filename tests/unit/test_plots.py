"""Figures draw what they are given, say it in words, and leave matplotlib's global state alone."""

import io
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from visionft import plots

P = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
Y = np.array([0, 1, 1, 1])
FIGURES = {
    "curves": lambda: plots.curves(
        [{"step": 0, "loss": 2.0}, {"step": 5, "accuracy": 0.5}, {"step": 9, "loss": 1.0}], ["loss"]
    ),
    "confusion": lambda: plots.confusion(np.array([[5, 1], [2, 8]]), ["good", "bad"]),
    "roc": lambda: plots.roc({"probe": (np.array([0, 0, 1]), np.array([0, 0.5, 1]), 0.75)}),
    "reliability": lambda: plots.reliability(P, Y),
    "interval_bars": lambda: plots.interval_bars(["probe"], [0.8], [0.7], [0.9], {"majority": 0.6}),
}


def svg(figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return buffer.getvalue()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn_and_says_in_words_what_it_shows(name):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    ElementTree.fromstring(svg(figure))
    assert figure.get_label().endswith(".")
    assert any(character.isdigit() for character in figure.get_label())
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would raise
    for draw in FIGURES.values():
        svg(draw())


def test_curves_skip_rows_that_lack_the_key():
    (line,) = FIGURES["curves"]().axes[0].get_lines()
    assert line.get_xydata().tolist() == [[0, 2.0], [9, 1.0]]


def test_a_log_without_the_key_is_an_empty_figure_that_says_so():
    assert plots.curves([{"step": 0}], ["loss"]).get_label() == "Curves over step: no values."


def test_the_confusion_matrix_shows_each_count_where_it_belongs():
    texts = {text.get_position(): text.get_text() for text in FIGURES["confusion"]().axes[0].texts}
    assert texts == {(0.5, 0.5): "5", (1.5, 0.5): "1", (0.5, 1.5): "2", (1.5, 1.5): "8"}


def test_a_class_without_samples_and_many_classes_can_be_shown():
    matrix = np.zeros((40, 40), dtype=int)
    figure = plots.confusion(matrix, [f"class {i}" for i in range(40)])
    assert not figure.axes[0].texts
    svg(figure)


@pytest.mark.parametrize("name", ["$a_b$", "<script>", "100 % & more", "x\\frac"])
def test_names_are_shown_as_they_are_and_never_read_as_mathematics(name):
    root = ElementTree.fromstring(svg(plots.confusion(np.eye(2, dtype=int), [name, "other"])))
    assert name in "".join(root.itertext())
    svg(plots.curves([{"step": 0, name: 1.0}], [name]))
    svg(plots.interval_bars([name], [0.5], [0.4], [0.6], {name: 0.3}))


def test_reliability_intervals_lie_within_zero_and_one_and_hold_the_accuracy():
    segments = FIGURES["reliability"]().axes[0].collections[0].get_segments()
    dots = FIGURES["reliability"]().axes[0].collections[1].get_offsets()
    for (bottom, top), (x, accuracy) in zip(segments, dots, strict=True):
        assert bottom[0] == x == top[0]
        assert 0 <= bottom[1] <= accuracy <= top[1] <= 1


def test_predicted_over_true_says_how_far_apart_they_are():
    truth = np.array([0.0, 1.0, 2.0, 3.0])
    figure = plots.against(truth, truth + np.array([0.5, -0.5, 0.5, -0.5]), "depth_mm", half=0.75)
    assert figure.get_label() == "Predicted over true depth_mm of 4 images, 0.5 apart on average."
    (axes,) = figure.axes
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(-0.75) and band[:, 1].max() == pytest.approx(3.75)
