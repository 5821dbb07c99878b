"""Tables of pretraining."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks import tables
from benchmarks.tables import Rows
from visionft.evaluation.starts import Start

SIDES = ("ours", "lightly", "lightlytrain")


def pretrain_step(rows: Rows) -> list[str]:
    """Speed of pretraining beside the peers, a table for every machine."""
    headers = ["", "photos", "ours", "lightly", "over lightly", "over LightlyTrain",
               "over lightly, with decoding, 10 epochs", "share of the matrix-product rate", "first step, s",
               "peak memory, GB"]  # fmt: skip

    def table(some: Rows) -> list[str]:
        lines = [
            [
                f"{row['objective']} {row['backbone']} {row['size']} px", row["photos"], f"{row['ours_img_s']:.1f}",
                f"{row['lightly_img_s']:.1f}", f"{row['speedup_vs_lightly']:.2f}x",
                f"{row['speedup_vs_lightlytrain']:.2f}x" if "speedup_vs_lightlytrain" in row else "",
                f"{row['speedup_10_epochs']:.2f}x", f"{row['matmul_share']:.0%}",
                _sides(row, "first_step_s"), _sides(row, "peak_gb"),
            ]
            for row in some
        ]  # fmt: skip
        return tables.of(headers, lines)

    return [
        "Pretraining, images per second from files to the optimizer step, against a plain loop of lightly's parts as "
        "its examples write it and LightlyTrain, in turn, each in a process of its own "
        "(`python -m benchmarks.speed.pretrain_step`). The last columns: ours / lightly / LightlyTrain. Matrix units "
        "(AMX, the Xeon's) make plain bf16 products five times as fast, and little else:",
        *tables.by_machine(rows, table),
    ]


def _sides(row: Mapping[str, Any], key: str) -> str:
    """A figure of each side that has it."""
    return " / ".join(f"{row[f'{side}_{key}']:.1f}" for side in SIDES if f"{side}_{key}" in row)


def pretrain_grid(rows: Rows) -> list[str]:
    """The speed of methods, networks and sizes, over lightly (and LightlyTrain)."""
    return [
        "Methods, networks and sizes, batch 32: our images per second and how many times lightly's loop (and "
        "LightlyTrain) that is (`python -m benchmarks.speed.pretrain_step --grid`):",
        *tables.by_machine(rows, _grid),
    ]


def _grid(rows: Rows) -> list[str]:
    sizes = sorted({row["size"] for row in rows})
    lines = []
    for key in dict.fromkeys((row["objective"], row["backbone"]) for row in rows):
        cells = {row["size"]: row for row in rows if (row["objective"], row["backbone"]) == key}
        lines.append([" ".join(key), *(_faster(cells.get(size)) for size in sizes)])
    return tables.of(["", *(f"{size} px" for size in sizes)], lines)


def _faster(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    third = f", {row['speedup_vs_lightlytrain']:.2f}x" if "speedup_vs_lightlytrain" in row else ""
    return f"{row['ours_img_s']:.1f} ({row['speedup_vs_lightly']:.2f}x{third})"


def recipes(rows: Rows) -> list[str]:
    """What the recipes of configs/pretrain/ cost, and what frozen features are worth before and after."""
    lines = []
    for row in rows:
        line = [row["recipe"], row["data"], f"{row['seconds'] / 60:.1f}", f"{row['epochs']:.0f}", row["seeds"]]
        for judge in ("knn", "probe"):
            change = tables.told(row, f"{judge}_gain", "+")
            line.append(f"{row[f'{judge}_before']:.3f} to {row[f'{judge}_after']:.3f}, {change}")
        lines.append(line)
    return [
        f"The recipes of configs/pretrain/ from random weights, {tables.machine(rows[0])}; frozen features judged "
        "before and after on the same test photos (`python -m benchmarks.quality.recipes`; what MAE learns shows after "
        "fine-tuning):",
        "",
        *tables.of(["recipe", "photos", "minutes", "epochs", "seeds", "kNN", "linear probe"], lines),
    ]


def peer_quality(rows: Rows) -> list[str]:
    """The same number of steps on the same photos: our features and lightly's."""
    lines = []
    for row in (row for row in rows if row["side"] == "difference"):
        cells = [f"{row['objective']} {row['backbone']}, {row['steps']} steps", row["seeds"]]
        for judge in ("knn", "probe"):
            for side in ("ours", "lightly"):
                same = [r[judge] for r in rows if r["side"] == side and r["objective"] == row["objective"]]
                cells.append(f"{statistics.mean(same):.3f}")
            cells.append(f"{row[judge]:+.3f} ({row[f'{judge}_low']:+.3f} to {row[f'{judge}_high']:+.3f})")
        lines.append(cells)
    headers = [
        "",
        "seeds",
        *(f"{judge}, {side}" for judge in ("kNN", "probe") for side in ("ours", "lightly", "difference")),
    ]
    return [
        f"The same steps on the same photos ({rows[-1]['data']}) from random weights "
        "(`python -m benchmarks.quality.peer_quality`):",
        "",
        *tables.of(headers, lines),
    ]


def time_to_knn(rows: Rows) -> list[str]:
    """How soon our features are as good as lightly's."""
    lines = []
    for row in (row for row in rows if "side" in row):
        shrunk = f", grow={row['grow']:g}" if row["grow"] < 1 else ""
        lines.append(
            [
                row["case"],
                f"{row['side']}{shrunk}",
                f"{row['seconds']:.0f}",
                row["seeds"],
                *(f"{row[k]:.3f} ({row[f'{k}_low']:.3f} to {row[f'{k}_high']:.3f})" for k in ("knn", "probe")),
            ]
        )
    words = "; ".join(
        f"{row['case']} ({tables.machine(row)}): kNN {_times(row, '')}, probe {_times(row, 'probe_')}"
        for row in rows if "speedup" in row
    )  # fmt: skip
    return [
        "SimCLR from the same start on the same photos, one process after the other: lightly's loop for all its "
        "epochs, ours for shares of its time (`python -m benchmarks.quality.time_to_knn`). Time to lightly's "
        f"accuracy, over the budgets tried: {words}.",
        "",
        *tables.of(["photos and start", "", "seconds", "seeds", "kNN", "linear probe"], lines),
    ]


def _times(row: Mapping[str, Any], prefix: str) -> str:
    """A speedup, or why there is none."""
    speedup = row[f"{prefix}speedup"]
    return f"{speedup:.1f}x" if speedup else str(row[f"{prefix}why"])


def label_efficiency(rows: Rows) -> list[str]:
    """Accuracy by labels from four starts."""
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        some = [row for row in rows if row["dataset"] == dataset and row["answer"] == "probe"]
        fractions = sorted({row["fraction"] for row in some})
        for start in dict.fromkeys(row["start"] for row in some):
            cells = {row["fraction"]: row for row in some if row["start"] == start}
            lines.append([dataset, Start(start), *(
                f"{cells[f]['accuracy']:.3f} ({cells[f]['ci_low']:.3f} to {cells[f]['ci_high']:.3f})" for f in fractions
            )])  # fmt: skip
    said = [f"{row['dataset']}: {row['verdict']}" for row in {row["dataset"]: row for row in rows}.values()]
    shares = [f"{fraction:.0%}" for fraction in sorted({row["fraction"] for row in rows})]
    return [
        "Does self-supervision pay? Linear probe on frozen tf_efficientnet_lite0 features from four starts, by share "
        "of the labels, with 95 % intervals over draws of labels and test images (`visionft study`, "
        "`python -m benchmarks.quality.label_efficiency`).",
        "",
        *(f"- {line}" for line in said),
        "",
        *tables.of(["photos", "start", *shares], lines),
    ]


def label_efficiency_sweep(rows: Rows) -> list[str]:
    """Other ways to pretrain, on the same photos."""
    cases = {row["case"]: row for row in rows}.values()
    return [
        "Other ways to pretrain (`python -m benchmarks.quality.label_efficiency DATA --set WORDS`), each for four "
        "minutes of one core; with four folds every photo is a test image once, and the intervals are half as wide:",
        "",
        *(f"- {row['dataset']}, {row['set']}{_folds(row)}: {row['verdict']}" for row in cases),
    ]


def _folds(row: Mapping[str, Any]) -> str:
    return f", {row['folds']} folds" if row.get("folds", 1) > 1 else ""


def rates(rows: Rows) -> list[str]:
    """Which learning rate is a good default."""
    tried = sorted({row["rate"] for row in rows})
    lines = []
    for key in dict.fromkeys(map(_key, rows)):
        cells = {rate: [r for r in rows if r["rate"] == rate and _key(r) == key] for rate in tried}
        start = "random" if key[3] == "none" else "ImageNet"
        lines.append([f"{key[0]} {key[1]} {key[2]} px, {key[4]} steps", key[5], start, len(cells[0.0]), *(
            f"{tables.mean(some, 'probe')} / {tables.mean(some, 'knn')}" if some else "" for some in cells.values()
        )])  # fmt: skip
    return [
        "Learning rates: linear probe / kNN on frozen features, cross-validated on the labels of the training photos "
        "(`python -m benchmarks.quality.rates`):",
        "",
        *tables.of(["", "photos", "from", "seeds", "start", *(f"{rate:g}" for rate in tried if rate)], lines),
    ]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("objective", "backbone", "size", "weights", "steps", "data"))


PRETRAINING = (
    pretrain_step, pretrain_grid, recipes, rates, peer_quality, time_to_knn, label_efficiency, label_efficiency_sweep,
)  # fmt: skip
