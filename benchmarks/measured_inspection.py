"""Tables of inspection."""

from __future__ import annotations

import statistics

from benchmarks import tables
from benchmarks.tables import Rows


def promise(rows: Rows) -> list[str]:
    """How often thresholds of inspection kept what they promised."""
    lines = [
        [row["data"], row["good"], f"{row['budget']:.0%}", "on average" if row["confidence"] is None else "95 % sure",
         f"{row['mean_rate']:.2%}", f"{row['limit']:.2%}",
         *(f"{row[f'share_{what}']:.1%}" for what in ("exceeded", "expected", "proven"))]
        for row in rows
    ]  # fmt: skip
    headers = [
        "good images",
        "fitted to",
        "budget",
        "promise",
        "rejected, mean",
        "bound",
        "runs above the bound",
        "expected of so few others",
        "proven",
    ]
    return [
        "Inspection: is the promise kept? 200 draws of good images each, judged by the share of all other good images "
        "that the threshold rejects (`python -m benchmarks.quality.promise`). On average the mean is to stay below the "
        "budget, and 5 % of draws at most above the bound, which is the budget where that is promised with confidence:",
        "",
        *tables.of(headers, lines),
    ]


def inspection_tiles(rows: Rows) -> list[str]:
    """Magnetic tiles against anomalib."""
    return _inspection("magnetic tiles, 300 good to fit", rows)


def inspection_textile(rows: Rows) -> list[str]:
    """Cloth against anomalib."""
    return _inspection("cloth (simulated), 300 good to fit", rows)


def inspection_elpv(rows: Rows) -> list[str]:
    """Solar cells against anomalib."""
    return _inspection("monocrystalline solar cells, 441 flawless to fit, all others defective", rows)


def _inspection(data: str, rows: Rows) -> list[str]:
    """Means over seeds, by tool."""
    keys = {"auroc": "AUROC", "auroc_as_told": "AUROC as its users get it", "pixel_auroc": "pixel AUROC",
            "aupro": "AUPRO", "f1max": "F1max"}  # fmt: skip
    shown = [key for key in keys if any(key in row for row in rows)]
    kinds = [key for key in rows[0] if key.startswith("auroc/")]
    lines = []
    for tool in dict.fromkeys(row["tool"] for row in rows):
        own = [row for row in rows if row["tool"] == tool]
        by_kind = ", ".join(
            f"{kind.removeprefix('auroc/')} {statistics.mean(r[kind] for r in own):.3f}" for kind in kinds
        )
        timed = [row for row in own if row["machine"] == rows[0]["machine"]]
        times = [tables.median(row[key] for row in timed) for key in ("fit_seconds", "predict_ms", "peak_mb")]
        alone = tables.median((row["model_ms"]["8"] for row in timed), 1)
        lines.append([tool, len(own), *(tables.mean(own, key) for key in shown), by_kind, *times, alone])
    headers = ["", "seeds", *(keys[key] for key in shown), "AUROC by kind of defect", "fit, s", "ms/image from files",
               "peak, MB", "ms/image, batch 8"]  # fmt: skip
    return [f"Inspection, {data} (`python -m benchmarks.quality.inspection`), the same weights for all; times on "
            f"{tables.machine(rows[0])}:", "", *tables.of(headers, lines)]  # fmt: skip


def textile_fewshot(rows: Rows) -> list[str]:
    """Cloth from a few photos of each kind."""
    mean_, *splits = rows
    others = f"{mean_['accuracy_others']:.3f} ({mean_['others_ci_low']:.3f} to {mean_['others_ci_high']:.3f})"
    return [
        "Cloth from 50 good and 50 defective photos (`python -m benchmarks.quality.textile_fewshot`): accuracy "
        f"{mean_['accuracy']:.3f} ({mean_['ci_low']:.3f} to {mean_['ci_high']:.3f}) on 100 others and {others} on all "
        f"others, means of {len(splits)} splits with intervals; learnt in {mean_['learn_seconds']:.0f} s on "
        f"{tables.machine(mean_)}. CLIP ViT-L/14 at the same sizes: {mean_['published']:.2f} (published, its split)."
    ]


def board(rows: Rows) -> list[str]:
    """A small defect in a large photo."""
    lines = [
        [row["case"], f"{row['auroc']:.3f}", f"{row['found']} of {row['spots']}", f"{row['placed']} of {row['spots']}",
         f"{row['overkill']} of {row['good_tested']}", f"{row['fit_seconds']:.0f}", f"{row['predict_seconds']:.1f}",
         f"{row['peak_mb'] / 1000:.1f}"]
        for row in rows
    ]  # fmt: skip
    headers = ["photos", "AUROC", "spots found", "hottest region at the spot", "good boards rejected", "fit, s",
               "s a photo, from file", "peak so far, GB"]  # fmt: skip
    return [
        f"Inspection, synthetic circuit boards with a spot of {rows[0]['spot_px']} px, {rows[0]['fitted']} good to fit "
        f"it, budget 5 % (`python -m benchmarks.quality.board`), {tables.machine(rows[0])}:",
        "",
        *tables.of(headers, lines),
    ]


def foreign(rows: Rows) -> list[str]:
    """Another product under the camera."""
    lines = [[row["fitted_to"], row["shown"], row["photos"], f"{row['rejected']:.0%}", f"{row['foreign']:.0%}"]
             for row in rows]  # fmt: skip
    return [
        "Inspection, photos of other products and of other conditions (`python -m benchmarks.quality.foreign`), budget "
        "1 %; foreign is what is marked all over:",
        "",
        *tables.of(["fitted to good", "shown", "photos", "rejected", "called foreign"], lines),
    ]


def inspection_ssl(rows: Rows) -> list[str]:
    """Self-supervision on the good photos before inspection."""
    lines = []
    for data, objective in dict.fromkeys((row["data"], row["objective"]) for row in rows):
        own = [row for row in rows if (row["data"], row["objective"]) == (data, objective)]
        means = [tables.mean(own, key) for key in ("auroc_imagenet", "auroc", "auroc_both")]
        gains = ("; ".join(tables.signed(row, key) for row in own) for key in ("gain", "both_gain"))
        share = ", ".join(f"{row['share']:.0%}" for row in own if row.get("share") is not None)
        lines.append([data, objective, len(own), share, *means, *gains])
    headers = ["photos", "objective", "seeds", "of the way", "ImageNet", "adapted", "both",
               "adapted over ImageNet, each seed", "both over ImageNet, each seed"]  # fmt: skip
    return [
        "Inspection after self-supervision on its good photos alone, from ImageNet weights "
        f"({rows[0]['minutes']:g} minutes; `python -m benchmarks.quality.inspection_ssl`), AUROC on the same photos:",
        "",
        *tables.of(headers, lines),
    ]


def export(rows: Rows) -> list[str]:
    """Exported files against PyTorch."""
    lines = []
    for row in rows:
        runs = ", ".join(f"{size}: {'yes' if works else 'no'}" for size, works in row["batches"].items())
        ms = ", ".join(f"{engine} {told['p50_ms']:.1f}" for engine, told in row["ms"].items())
        apart = f"{row['apart']:.1g}" if row["apart"] is not None else ""
        lines.append([row["tool"], runs or row["export"].get("reason", "")[:60], apart, ms])
    return [
        f"Exported to ONNX ({rows[0]['data']}; `python -m benchmarks.speed.export`), {tables.machine(rows[0])}; "
        "difference of scores from PyTorch at most, in standard deviations of good parts for ours, as a share of the "
        "largest for others; milliseconds for one photo, ours from pixels to verdict, others' network alone:",
        "",
        *tables.of(["", "runs with a batch of", "difference", "ms, p50"], lines),
    ]


def defects_curve(rows: Rows) -> list[str]:
    """What labelled defects add."""
    counts = sorted({row["labels"] for row in rows})
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        by = {n: [row for row in rows if (row["data"], row["labels"]) == (data, n)] for n in counts}
        most = "; ".join(tables.signed(row, "gain") for row in by[counts[-1]])
        lines.append([data, len(by[0]), *(tables.mean(by[n], "auroc") for n in counts), most])
    return [
        "Inspection, labelled defects added to the one-class score: AUROC on test images that are the same along a row "
        "(`python -m benchmarks.quality.defects_curve`; fewer than six are refused, from ten on a head learns):",
        "",
        *tables.of(["photos", "seeds", *(f"{n} defects" for n in counts), f"{counts[-1]} over none, each seed"], lines),
    ]


def supervised(rows: Rows) -> list[str]:
    """What networks that learn from labels answer to the same question."""
    lines = []
    for labels, what in {"same": "the same 441 + 100 labels", "all": "every label, cross-validated"}.items():
        own = [row for row in rows if row["labels"] == labels]
        kinds = [tables.mean(own, key) for key in own[0] if key.startswith("auroc/")]
        lines.append([what, f"{own[0]['epochs']:g}", len(own), tables.mean(own, "auroc"), *kinds])
    names = [key.removeprefix("auroc/") for key in rows[0] if key.startswith("auroc/")]
    return [
        "What labels would give at best: tf_efficientnet_lite0 fine-tuned at 224 px, asked what the inspector of solar "
        "cells with 100 defects is asked, on the same test images (`python -m benchmarks.quality.supervised`):",
        "",
        *tables.of(["learnt from", "epochs", "seeds", "AUROC", *names], lines),
    ]


def coreset(rows: Rows) -> list[str]:
    """The coreset that PatchCore takes."""
    peer, ours, fit = rows
    return [
        f"A coreset of a tenth of {ours['patches']:,} patches ({ours['photos']} photos at 224 px, {ours['features']} "
        f"features; `python -m benchmarks.speed.coreset`), {tables.machine(ours)}: ours {ours['seconds']:.0f} s, "
        f"anomalib's {peer['seconds'] / 60:.0f} minutes (the straight line through {peer['measured'][0]['centres']} "
        f"and {peer['measured'][1]['centres']} centres), {peer['seconds'] / ours['seconds']:.0f} times as long. Our "
        f"whole fit with such a bank, from files, every photo held out once: {fit['seconds']:.0f} s, "
        f"{fit['peak_mb'] / 1000:.1f} GB."
    ]


INSPECTION = (
    inspection_tiles,
    inspection_textile,
    inspection_elpv,
    textile_fewshot,
    board,
    inspection_ssl,
    foreign,
    promise,
    defects_curve,
    supervised,
    coreset,
    export,
)
