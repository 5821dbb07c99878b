"""README's section of measured results, made of `results/*.json`.

python -m benchmarks.measured        writes it
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from visionft.evaluation.efficiency import NAMES
from visionft.evaluation.forgetting import front

README = Path(__file__).parent.parent / "README.md"
START, END = "## Measured\n", "## A run folder\n"
Rows = Sequence[Mapping[str, Any]]


def elpv(rows: Rows) -> list[str]:
    """The quickstart and the ladder over their seeds."""
    parts = [[row for row in rows if (" px" in row["stage"]) == large] for large in (False, True)]
    keys = ("accuracy", "auroc", "accuracy_mono", "accuracy_poly", "recall_mono", "recall_poly")
    lines, minutes = [], []
    for part in parts:
        for stage in dict.fromkeys(row["stage"] for row in part):
            own = [row for row in part if row["stage"] == stage]
            spread = [_spread([row[key] for row in own]) if all(key in row for row in own) else "" for key in keys]
            lines.append([stage, len(own), *spread])
        minutes.append(max((row["minutes_of_the_whole_run"] for row in part), default=0))
    larger = f", a seed at 224 px at most {minutes[1]:.0f}" if parts[1] else ""
    return [
        "Solar cells (`python -m benchmarks.quality.elpv`; another split for each seed, mean ± standard deviation over "
        f"seeds; the quickstart took at most {minutes[0]:.1f} minutes on two cores{larger}; intervals per seed are in "
        "`benchmarks/results/elpv.json`). Published: SVM 0.824, VGG19 0.884 (Deitsch 2019, their own split); VGG19 "
        "0.903 mono, 0.897 poly (Song 2024):",
        "",
        *_table(["stage", "seeds", "accuracy", "AUROC", "mono", "poly", "recall, mono", "recall, poly"], lines),
    ]


def pretrain_step(rows: Rows) -> list[str]:
    """Speed of pretraining beside the peers."""
    lines = [
        [
            f"{row['objective']} {row['backbone']} {row['size']} px", row["photos"], f"{row['ours_img_s']:.1f}",
            f"{row['lightly_img_s']:.1f}", f"{row['speedup_vs_lightly']:.2f}x",
            f"{row['speedup_vs_lightlytrain']:.2f}x" if "speedup_vs_lightlytrain" in row else "",
            f"{row['speedup_10_epochs']:.2f}x", f"{row['matmul_share']:.0%}",
        ]
        for row in rows
    ]  # fmt: skip
    headers = ["", "photos", "ours", "lightly", "over lightly", "over LightlyTrain",
               "over lightly, with decoding, 10 epochs", "share of the matrix-product rate"]  # fmt: skip
    return [
        f"Pretraining, images per second from files to the optimizer step, {_machine(rows[0])}, against a plain loop "
        "of lightly's parts as its examples write it and LightlyTrain, in turn, each in a process of its own "
        "(`python -m benchmarks.speed.pretrain_step`). lightly decodes 9 photos of 12 megapixels per second, and two "
        "cores could not train more than about 61 at 128 px at the rate of plain matrix products:",
        "",
        *_table(headers, lines),
    ]


def depthwise(rows: Rows) -> list[str]:
    """Training steps of depthwise networks."""
    lines = []
    for row in (row for row in rows if "network" in row):
        rate = row["images_per_second"]
        norms = ", norms frozen" if row.get("norms") == "frozen" else ""
        lines.append([f"{row['network']}, {row['pixels']} px, batch {row['batch']}{norms}", rate["torch fp32"],
                      rate["torch bf16"], rate["ours fp32"], rate["ours bf16"], f"{_best(rate):.2f}x"])  # fmt: skip
    return [
        "Training steps of depthwise networks, images per second (`python -m benchmarks.speed.depthwise`); a run takes "
        "the faster precision, as measured at its start:",
        "",
        *_table(["", "torch fp32", "torch bf16", "ours fp32", "ours bf16", "best of ours over best of torch"], lines),
    ]


def _best(rate: Mapping[str, float]) -> float:
    ours, torchs = (max(value for name, value in rate.items() if name.startswith(side)) for side in ("ours", "torch"))
    return ours / torchs


def memory(rows: Rows) -> list[str]:
    """What keeping freed memory gains."""
    lines = [
        [f"{row['network']}, {row['pixels']} px, batch {row['batch']}, {row['precision']}",
         row["default"]["images_per_second"], row["kept"]["images_per_second"], f"{row['gain']:.2f}x"]
        for row in rows
    ]  # fmt: skip
    return [
        "The same steps when the process keeps the memory that it frees, as the command line does "
        "(`python -m benchmarks.speed.memory`), images per second:",
        "",
        *_table(["", "default", "kept", "gain"], lines),
    ]


def adapters(rows: Rows) -> list[str]:
    """What a step costs with each adapter, and what it reaches."""
    clock = "CPU time of one thread" if any(row.get("clock") == "cpu" for row in rows) else "two cores"
    lines = [
        [f"{row['network']}, {row['size']} px, batch {row['batch']}", row["method"], f"{row['share']:.2%}",
         f"{row['step_ms']:.0f}", f"{row['of_full']:.2f}", f"{row['memory_mb']:.0f}"]
        for row in rows if "step_ms" in row
    ]  # fmt: skip
    return [
        "What a training step costs with each adapter or tuning table, in turn "
        f"(`python -m benchmarks.speed.adapters`, {clock}); memory is weights, gradients, moments and what autograd "
        "keeps:",
        "",
        *_table(["network", "method", "weights that learn", "step, ms", "of full", "memory, MB"], lines),
        *_reached([row for row in rows if "accuracy" in row]),
    ]


def _reached(rows: Rows) -> list[str]:
    lines = [[f"{row['network']}, {row['size']} px", row["start"], row["method"], _told(row, "accuracy", ""),
              "" if row["method"] == "full" else _told(row, "over_full", "+")] for row in rows]  # fmt: skip
    if not rows:
        return []
    return [
        "",
        f"What they reach in {rows[0]['steps']} steps of 32 on {rows[0]['data']}, {rows[0]['seeds']} seeds, the same "
        "test images, with 95 % intervals (`python -m benchmarks.quality.adapters`); the probe is fitted on the "
        "validation images, too, and is the same for every seed:",
        "",
        *_table(["network", "start", "method", "accuracy", "over full"], lines),
    ]


def _told(row: Mapping[str, Any], key: str, sign: str) -> str:
    return f"{row[key]:{sign}.3f} ({row[f'{key}_low']:{sign}.3f} to {row[f'{key}_high']:{sign}.3f})"


def probe(rows: Rows) -> list[str]:
    """A probe on cached features."""
    case = {row["case"]: row for row in rows}
    ours, loop, plain = (case[name] for name in ("ours", "frozen loop", "cached fp32"))
    return [
        f"A linear probe on {ours['images']} photos at {ours['size']} px: 20 epochs through the frozen backbone take "
        f"{loop['seconds']:.0f} s, the same 20 epochs on features computed once in fp32 {plain['seconds']:.1f} s "
        f"({plain['speedup']:.0f}x), ours (bf16 features, L-BFGS, L2 cross-validated) {ours['seconds']:.1f} s "
        f"({ours['speedup']:.0f}x) (`python -m benchmarks.speed.probe`)."
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
        f"{row['case']}: {row['speedup']:.1f}x" if row["speedup"] else f"{row['case']}: {row['why']}"
        for row in rows if "speedup" in row
    )  # fmt: skip
    return [
        "SimCLR from the same start on the same photos, one process after the other: lightly's loop for all its "
        "epochs, ours for shares of its time (`python -m benchmarks.quality.time_to_knn`). Time to lightly's kNN "
        f"accuracy, over the budgets tried: {words}.",
        "",
        *_table(["photos and start", "", "seconds", "seeds", "kNN", "linear probe"], lines),
    ]


def peer_quality(rows: Rows) -> list[str]:
    """The same number of steps on the same photos: our features and lightly's."""
    lines = []
    for row in (row for row in rows if row["side"] == "difference"):
        cells = [f"{row['objective']} {row['backbone']}, {row['steps']} steps"]
        for judge in ("knn", "probe"):
            for side in ("ours", "lightly"):
                same = [r[judge] for r in rows if r["side"] == side and r["objective"] == row["objective"]]
                cells.append(f"{statistics.mean(same):.3f}")
            cells.append(f"{row[judge]:+.3f} ({row[f'{judge}_low']:+.3f} to {row[f'{judge}_high']:+.3f})")
        lines.append(cells)
    headers = ["", *(f"{judge}, {side}" for judge in ("kNN", "probe") for side in ("ours", "lightly", "difference"))]
    seeds, data = rows[-1]["seeds"], rows[-1]["data"]
    return [
        f"The same steps on the same photos ({data}) from random weights, {seeds} seeds "
        "(`python -m benchmarks.quality.peer_quality`):",
        "",
        *_table(headers, lines),
    ]


def pretrain_grid(rows: Rows) -> list[str]:
    """The speed of methods, networks and sizes, over lightly (and LightlyTrain)."""
    sizes = sorted({row["size"] for row in rows})
    lines = []
    for key in dict.fromkeys((row["objective"], row["backbone"]) for row in rows):
        cells = {row["size"]: row for row in rows if (row["objective"], row["backbone"]) == key}
        lines.append([" ".join(key), *(_faster(cells.get(size)) for size in sizes)])
    return [
        "Methods, networks and sizes, batch 32: our images per second and how many times lightly's loop (and "
        "LightlyTrain) that is (`python -m benchmarks.speed.pretrain_step --grid`):",
        "",
        *_table(["", *(f"{size} px" for size in sizes)], lines),
    ]


def _faster(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    third = f", {row['speedup_vs_lightlytrain']:.2f}x" if "speedup_vs_lightlytrain" in row else ""
    return f"{row['ours_img_s']:.1f} ({row['speedup_vs_lightly']:.2f}x{third})"


def label_efficiency(rows: Rows) -> list[str]:
    """Accuracy by labels from four starts."""
    lines = []
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        some = [row for row in rows if row["dataset"] == dataset and row["answer"] == "probe"]
        fractions = sorted({row["fraction"] for row in some})
        for start in dict.fromkeys(row["start"] for row in some):
            cells = {row["fraction"]: row for row in some if row["start"] == start}
            lines.append([dataset, NAMES[start], *(
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
        *_table(["photos", "start", *shares], lines),
    ]


def forgetting(rows: Rows) -> list[str]:
    """What is forgotten of ImageNet, plainly and with remedies: one Pareto table."""
    by_way = {way: [row for row in rows if row["remedy"] == way] for way in dict.fromkeys(r["remedy"] for r in rows)}
    mean = {way: [statistics.mean(row[key] for row in own) for key in FORGOTTEN] for way, own in by_way.items()}
    ahead = front([(m[0], m[1]) for m in mean.values()])
    lines = [
        [f"{way}, weight {own[0]['weight']:g}" if own[0]["weight"] else way,
         *(_over_seeds(own, key) for key in FORGOTTEN[:3]), *(f"{value:.3f}" for value in mean[way][3:]),
         "yes" if on else ""]
        for (way, own), on in zip(by_way.items(), ahead, strict=True)
    ]  # fmt: skip
    seeds = len({row["seed"] for row in rows})
    over = "mean ± standard deviation" if seeds > 1 else "95 % bootstrap intervals over images"
    return [
        "What ImageNet weights (tf_efficientnet_lite0) forget in 150 steps on solar cells, plainly and with remedies "
        f"(`python -m benchmarks.quality.forgetting`, {seeds} seed{'s' if seeds > 1 else ''}, {over}). Retained: how "
        "often their thousand-way classifier, put on the new features as it was, is right on 125 ImageNet photos at "
        "128 px that no remedy and no choice has seen; weights were chosen by validation images of the solar cells:",
        "",
        *_table(["", "solar cells", "retained", "change", "same answers", "CKA, last stage", "drift", "Pareto"], lines),
    ]


FORGOTTEN = ("accuracy", "retained", "change", "agreement", "cka_of_the_last_stage", "drift")


def _over_seeds(rows: Rows, key: str) -> str:
    if len(rows) > 1:
        return _spread([row[key] for row in rows])
    return f"{rows[0][key]:.3f} ({rows[0][f'{key}_low']:.3f} to {rows[0][f'{key}_high']:.3f})"


def stopping(rows: Rows) -> list[str]:
    """One row a setting: accuracy by each rule of which weights answer."""
    rules, settings = ([*dict.fromkeys(row[key] for row in rows)] for key in ("rule", "setting"))
    found = {(row["setting"], row["rule"]): row for row in rows}
    ahead = [row for row in rows if row["rule"] == "stop after 4"]
    worst = min(ahead, key=lambda row: row["over_end"])
    return [
        "Which weights should answer? Runs that nothing stops, looked at ten times; each rule picks a look by "
        f"validation images; {rows[0]['seeds']} seeds, the same images judge all, which are part of nobody's test "
        "(`python -m benchmarks.quality.stopping`). The default is the end. Stopping by log-loss after 4 looks "
        f"without a better one changes accuracy by {_signed(worst, 'over_end')} at worst ({worst['setting']}). "
        "Accuracy (log-loss):",
        "",
        *_table(
            ["", *rules],
            [[s, *(f"{found[s, r]['accuracy']:.3f} ({found[s, r]['log_loss']:.3f})" for r in rules)] for s in settings],
        ),
    ]


def finetune_peers(rows: Rows) -> list[str]:
    """Fine-tuning beside fastai, a timm loop and peft, in the same time."""
    rows = sorted((row for row in rows if "seeds" in row), key=lambda row: (row["dataset"], row["labels"]))
    named = {"fastai": "fastai, `fine_tune`", "timm": "timm loop", "peft": "peft, LoRA"}
    against = [row for row in rows if row["tool"] in named and "ours_more" in row]
    ahead, behind = (sum(each) for each in (
        [row["ours_more_low"] > 0 for row in against], [row["ours_more_high"] < 0 for row in against]))  # fmt: skip
    lines = [
        [row["dataset"], row["labels"], named.get(row["tool"], row["tool"]), row["seeds"], f"{row['seconds']:.0f}",
         f"{row['accuracy']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})", _signed(row, "ours_more")]
        for row in rows
    ]  # fmt: skip
    return [
        "Fine-tuning of tf_efficientnet_lite0 from the same weights, labels and files, in the same time, each in a "
        "process of its own (`python -m benchmarks.quality.finetune_peers`, which says the rules; intervals are over "
        f"draws of labels and test images). Beyond the interval of the difference, ours by its defaults is ahead in "
        f"{ahead} of {len(against)} comparisons with a peer and behind in {behind}:",
        "",
        *_table(["photos", "labels", "tool", "seeds", "seconds", "accuracy", "ours is right more often by"], lines),
    ]


def promise(rows: Rows) -> list[str]:
    """How often thresholds of inspection kept what they promised."""
    lines = [
        [row["data"], row["good"], f"{row['budget']:.0%}", "on average" if row["confidence"] is None else "95 % sure",
         f"{row['mean_rate']:.2%}", f"{row['limit']:.2%}", f"{row['share_exceeded']:.1%}", f"{row['share_proven']:.1%}"]
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
        "proven",
    ]
    return [
        "Inspection: is the promise kept? 200 draws of good images each, judged by the share of all other good images "
        "that the threshold rejects (`python -m benchmarks.quality.promise`). On average the mean is to stay below the "
        "budget, and 5 % of draws at most above the bound, which is the budget where that is promised with confidence:",
        "",
        *_table(headers, lines),
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
        times = [_median(row[key] for row in timed) for key in ("fit_seconds", "predict_ms", "peak_mb")]
        alone = _median((row["model_ms"]["8"] for row in timed), 1)
        lines.append([tool, len(own), *(_mean(own, key) for key in shown), by_kind, *times, alone])
    headers = ["", "seeds", *(keys[key] for key in shown), "AUROC by kind of defect", "fit, s", "ms/image from files",
               "peak, MB", "ms/image, batch 8"]  # fmt: skip
    return [f"Inspection, {data} (`python -m benchmarks.quality.inspection`), the same weights for all; times on "
            f"{_machine(rows[0])}:", "", *_table(headers, lines)]  # fmt: skip


def _mean(rows: Rows, key: str) -> str:
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    return f"{values[0]:.3f}" if len(values) == 1 else _spread(values)


SECTIONS = (
    elpv,
    stopping,
    forgetting,
    pretrain_step,
    pretrain_grid,
    peer_quality,
    time_to_knn,
    label_efficiency,
    finetune_peers,
    inspection_tiles,
    inspection_textile,
    inspection_elpv,
    promise,
    depthwise,
    memory,
    adapters,
    probe,
)


def section() -> str:
    """The text between the headings."""
    parts = []
    for make in SECTIONS:
        file = RESULTS / f"{make.__name__}.json"
        if file.is_file():
            found = json.loads(file.read_text())
            parts.append("\n".join(make([{"machine": found["machine"], **row} for row in found["rows"]])))
    return "\n" + "\n\n".join(parts) + "\n\n"


def _signed(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:+.3f} ({row[f'{name}_low']:+.3f} to {row[f'{name}_high']:+.3f})" if name in row else ""


def _machine(row: Mapping[str, Any]) -> str:
    """Its processor in words."""
    found = row["machine"]
    cpu = found["cpu"].replace("(R)", "").replace(" Processor", "")
    return f"{found['cores']} cores of an {cpu}"


def _median(values: Iterable[float], digits: int = 0) -> str:
    """Nothing of no values."""
    found = list(values)
    return f"{statistics.median(found):.{digits}f}" if found else ""


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (headers, ["---"] * len(headers), *rows)]


def main() -> None:
    """Put the section into README.md."""
    text = README.read_text()
    before, after = text.index(START) + len(START), text.index(END)
    README.write_text(text[:before] + section() + text[after:])


if __name__ == "__main__":
    main()
