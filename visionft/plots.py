"""The figures of a report: matplotlib Figures made without global state, quiet enough to be printed.

Each carries, as its label (`Figure.get_label`), the sentence a reader who cannot see it should hear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, to_rgba

from visionft.evaluation.classification import expected_calibration_error
from visionft.evaluation.classification import reliability as calibration
from visionft.evaluation.intervals import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

Array = npt.NDArray[Any]
# the report turns these very colours into variables of its style sheet, which knows light from dark
INK, MUTED, RULE = "#1a1d21", "#626a73", "#d4d8dd"
SERIES = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096")
SMALL = 8.5  # points
NUMBERED = 12  # a confusion matrix of more classes shows shades only


def curves(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], x: str = "step", size: tuple[float, float] = (5.6, 2.9)
) -> Figure:
    """Draw columns of a log over `x` on one axis; rows that lack a key are skipped for it."""
    figure, axes = _figure(*size)
    heard = []
    for i, key in enumerate(keys):
        points = [(row[x], row[key]) for row in rows if x in row and row.get(key) is not None]
        if not points:
            continue
        at, values = zip(*points, strict=True)
        marker = "o" if len(points) < 12 else ""
        axes.plot(at, values, color=SERIES[i % len(SERIES)], linewidth=1.4, marker=marker, markersize=3, label=key)
        heard.append(f"{key} from {values[0]:.4g} to {values[-1]:.4g}")
    axes.set_xlabel(x, color=MUTED, fontsize=SMALL)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    if len(keys) > 1:
        _legend(axes)
    figure.set_label(f"Curves over {x}: {'; '.join(heard) or 'no values'}.")
    return figure


def confusion(matrix: Array, classes: Sequence[str]) -> Figure:
    """Draw counts C C, rows the truth; shade is the share of the row, so that rare classes show as well."""
    matrix = np.asarray(matrix)
    side = min(1.4 + 0.5 * len(classes), 6.4)
    figure, axes = _figure(side + 0.4, side)
    share = matrix / matrix.sum(axis=1, keepdims=True).clip(1)
    shade = LinearSegmentedColormap.from_list("shade", [to_rgba(SERIES[0], 0.04), to_rgba(SERIES[0], 0.62)])
    axes.pcolormesh(share, cmap=shade, vmin=0, vmax=1)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    if len(classes) <= NUMBERED:
        for (row, column), count in np.ndenumerate(matrix):
            weight = "bold" if row == column else "normal"
            axes.text(
                column + 0.5, row + 0.5, f"{count}", ha="center", va="center", color=INK, fontsize=9, weight=weight
            )
    at = np.arange(len(classes)) + 0.5
    slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(classes) > 3 else {}
    axes.set_xticks(at, classes, parse_math=False, **slant)
    axes.set_yticks(at, classes, parse_math=False)
    axes.set_xlabel("predicted", color=MUTED, fontsize=SMALL)
    axes.set_ylabel("truth", color=MUTED, fontsize=SMALL)
    _bare(axes)
    heard = (
        f"of {r.sum()} {name}, {r[i]} are recognised" for i, (name, r) in enumerate(zip(classes, matrix, strict=True))
    )
    figure.set_label(f"Confusion matrix: {'; '.join(heard)}.")
    return figure


def roc(curves: Mapping[str, tuple[Array, Array, float]]) -> Figure:
    """Draw ROC curves, name -> (false positive rate, true positive rate, area)."""
    figure, axes = _figure(2.75, 2.7 + 0.17 * len(curves))
    axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
    for i, (name, (fpr, tpr, area)) in enumerate(curves.items()):
        axes.plot(fpr, tpr, color=SERIES[i % len(SERIES)], linewidth=1.4, label=f"{name}  {area:.3f}")
    _square(axes, "false positive rate", "true positive rate")
    _legend(axes, loc="outside lower left")  # names can be longer than the empty corner
    figure.set_label(f"ROC curves: {'; '.join(f'{name}, area {area:.3f}' for name, (_, _, area) in curves.items())}.")
    return figure


def reliability(probabilities: Tensor | Array, labels: Tensor | Array) -> Figure:
    """Draw accuracy against confidence in 15 bins with 95 % Wilson intervals; a dot's area is its share of samples."""
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    count, confidence, accuracy = (column[calibration(p, y)[0] > 0] for column in calibration(p, y))
    figure, axes = _figure(2.75, 2.7)
    axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
    axes.vlines(confidence, *wilson(accuracy, count), color=SERIES[0], linewidth=1, alpha=0.6)
    axes.scatter(confidence, accuracy, s=8 + 120 * count / count.sum(), color=SERIES[0], linewidths=0, clip_on=False)
    _square(axes, "confidence", "accuracy")
    ece = expected_calibration_error(p, y)
    axes.text(0.03, 0.95, f"ECE {ece:.3f}", color=INK, fontsize=SMALL, va="top")
    figure.set_label(f"Reliability: mean confidence {p.max(axis=1).mean():.3f}, calibration error {ece:.3f}.")
    return figure


def interval_bars(
    names: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw one value with its interval per row, first on top, and named references as dashed lines to beat."""
    references = references or {}
    figure, axes = _figure(5.6, 0.6 + 0.3 * len(names) + 0.17 * len(references))
    rows = np.arange(len(names))
    for place, (name, value) in enumerate(references.items()):
        axes.axvline(value, color=MUTED, linewidth=0.9, dashes=(4, 3))
        style: dict[str, Any] = {"ha": "center", "color": MUTED, "fontsize": SMALL, "parse_math": False}
        above = axes.get_xaxis_transform()
        axes.annotate(
            f"{name} {value:.3f}", (value, 1), (0, 3 + 11 * place), above, textcoords="offset points", **style
        )
    axes.hlines(rows, lows, highs, color=SERIES[0], linewidth=2.2, alpha=0.45)
    axes.scatter(values, rows, color=SERIES[0], s=26, zorder=3, linewidths=0)
    axes.set_yticks(rows, names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.locator_params("x", nbins=6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    told = (f"{n} {v:.3f} ({a:.3f} to {b:.3f})" for n, v, a, b in zip(names, values, lows, highs, strict=True))
    beaten = "".join(f"; {name} is at {value:.3f}" for name, value in references.items())
    figure.set_label(f"Values with intervals: {'; '.join(told)}{beaten}.")
    return figure


def growth(series: Mapping[str, Sequence[tuple[int, float, float, float]]], x: str, y: str) -> Figure:
    """Draw name -> (x, value, low, high), x on a logarithmic axis, intervals as bands."""
    figure, axes = _figure(5.6, 2.6)
    for i, (name, points) in enumerate(series.items()):
        at, values, lows, highs = zip(*points, strict=True)
        colour = SERIES[i % len(SERIES)]
        axes.plot(at, values, color=colour, linewidth=1.4, marker="o", markersize=3, label=name)
        axes.fill_between(at, lows, highs, color=colour, alpha=0.13, linewidth=0)
    ticks = sorted({point[0] for points in series.values() for point in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x, color=MUTED, fontsize=SMALL)
    axes.set_ylabel(y, color=MUTED, fontsize=SMALL)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    _legend(axes)
    told = (f"{name} from {p[0][1]:.3f} with {p[0][0]} to {p[-1][1]:.3f} with {p[-1][0]}" for name, p in series.items())
    figure.set_label(f"{y} over {x}: {'; '.join(told)}.")
    return figure


def sweep(rates: Array, losses: Array, smooth: Array, suggestion: float | None) -> Figure:
    """Draw losses over rising rates, N each, with their smooth course and the rate to take."""
    figure, axes = _figure(5.6, 2.9)
    axes.plot(rates, losses, color=MUTED, linewidth=0.8, alpha=0.5)
    axes.plot(rates, smooth, color=SERIES[0], linewidth=1.6)
    low, high = float(smooth.min()), float(smooth[: max(1, len(smooth) // 4)].max())
    axes.set_ylim(
        low - 0.15 * (high - low) - 1e-9, high + 0.6 * (high - low) + 1e-9
    )  # what explodes may leave the axes
    if suggestion is not None:
        axes.axvline(suggestion, color=SERIES[1], linewidth=1, dashes=(4, 3))
        above = axes.get_xaxis_transform()
        style: dict[str, Any] = {"ha": "center", "color": INK, "fontsize": SMALL}
        axes.annotate(f"{suggestion:.1e}", (suggestion, 1), (0, 3), above, textcoords="offset points", **style)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", color=MUTED, fontsize=SMALL)
    axes.set_ylabel("loss", color=MUTED, fontsize=SMALL)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    taken = "no suggestion" if suggestion is None else f"suggested is {suggestion:.1e}"
    figure.set_label(f"Loss over rates from {rates[0]:.1e} to {rates[-1]:.1e}, from {losses[0]:.4g}; {taken}.")
    return figure


def scatter(points: Array, labels: Array | None = None, classes: Sequence[str] = ()) -> Figure:
    """Draw N 2 points whose axes mean nothing, by class where there are any: colours first, then shapes."""
    figure, axes = _figure(5.6, 3.6)
    of = np.zeros(len(points), dtype=int) if labels is None else np.asarray(labels)
    for c, name in enumerate(classes or [""]):
        style: dict[str, Any] = {"color": SERIES[c % len(SERIES)], "marker": "os^Dvx"[c // len(SERIES) % 6]}
        x, y = points[of == c].T
        axes.scatter(x, y, s=13, alpha=0.65, linewidths=0, label=name or None, **style)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    _legend(axes, loc="outside right upper")
    counted = ", ".join(f"{int((of == c).sum())} {name}" for c, name in enumerate(classes))
    figure.set_label(f"Map of {len(points)} images{f': {counted}' if counted else ''}.")
    return figure


def against(truth: Array, said: Array, name: str, half: float | None = None) -> Figure:
    """Draw what was said of N images over what is true of them; a band of `half` to both sides of equality."""
    figure, axes = _figure(3.4, 3.3)
    ends = np.array([min(truth.min(), said.min()), max(truth.max(), said.max())])
    if half is not None:
        axes.fill_between(ends, ends - half, ends + half, color=SERIES[0], alpha=0.1, linewidth=0)
    axes.plot(ends, ends, color=RULE, linewidth=1)
    axes.scatter(truth, said, s=12, alpha=0.6, color=SERIES[0], linewidths=0)
    axes.set_xlabel(f"{name}, true", color=MUTED, fontsize=SMALL, parse_math=False)
    axes.set_ylabel(f"{name}, predicted", color=MUTED, fontsize=SMALL, parse_math=False)
    error = np.abs(said - truth).mean()
    figure.set_label(f"Predicted over true {name} of {len(truth)} images, {error:.3g} apart on average.")
    return figure


def strips(rows: Mapping[str, Array], line: float, name: str, x: str) -> Figure:
    """Draw every value of each row as a tick, first row on top, and a named line that they are measured by."""
    figure, axes = _figure(5.6, 0.7 + 0.34 * len(rows))
    for at, values in enumerate(rows.values()):
        axes.eventplot(values, lineoffsets=at, linelengths=0.62, linewidths=1, colors=SERIES[min(at, 1)], alpha=0.45)
    axes.axvline(line, color=INK, linewidth=0.9, dashes=(4, 3))
    above = axes.get_xaxis_transform()
    style: dict[str, Any] = {"ha": "center", "color": MUTED, "fontsize": SMALL, "parse_math": False}
    axes.annotate(f"{name} {line:.3g}", (line, 1), (0, 3), above, textcoords="offset points", **style)
    axes.set_yticks(range(len(rows)), [f"{row} ({len(values)})" for row, values in rows.items()], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(x, color=MUTED, fontsize=SMALL)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    told = (f"{row}, {(np.asarray(v) > line).sum()} of {len(v)} beyond" for row, v in rows.items())
    figure.set_label(f"{x}, {name} at {line:.3g}: {'; '.join(told)}.")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Inches; transparent, with only the lines that carry meaning."""
    from matplotlib.figure import Figure  # takes half a second, which a run that draws nothing need not wait

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=RULE)
    axes.tick_params(color=RULE, labelcolor=INK, labelsize=SMALL, length=3)
    return figure, axes


def _bare(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel(x, color=MUTED, fontsize=SMALL)
    axes.set_ylabel(y, color=MUTED, fontsize=SMALL)


def _legend(axes: Axes, loc: str = "best") -> None:
    handles, names = axes.get_legend_handles_labels()
    if names:
        style: dict[str, Any] = {
            "frameon": False,
            "fontsize": SMALL,
            "labelcolor": INK,
            "handlelength": 1.4,
            "loc": loc,
        }
        legend = (axes.figure if loc.startswith("outside") else axes).legend(handles, names, **style)
        for text in legend.get_texts():
            text.set_parse_math(False)
