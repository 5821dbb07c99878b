"""Tables of fine-tuning."""

from __future__ import annotations

import statistics

from benchmarks import tables
from benchmarks.tables import Rows
from visionft.evaluation.forgetting import front

FORGOTTEN = ("accuracy", "retained", "change", "agreement", "cka_of_the_last_stage", "drift")


def elpv(rows: Rows) -> list[str]:
    """The quickstart, fine-tuning and the ladder over their seeds."""
    keys = ("accuracy", "auroc", "accuracy_mono", "accuracy_poly", "recall_mono", "recall_poly")
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in sorted(rows, key=lambda row: " px" in row["stage"])):
        own = [row for row in rows if row["stage"] == stage]
        told = [tables.mean(own, key) if all(key in row for row in own) else "" for key in keys]
        threads = {row["machine"]["threads"] for row in own}
        minutes = f"{max(row['minutes_of_the_whole_run'] for row in own):.0f} on {min(threads)}"
        lines.append([stage, len(own), *told, minutes])
    headers = ["stage", "seeds", "accuracy", "AUROC", "mono", "poly", "recall, mono", "recall, poly"]
    return [
        "Solar cells (`python -m benchmarks.quality.elpv`; another split for each seed, mean ± standard deviation over "
        "seeds; minutes of the whole run that a stage is part of, at most, on so many cores; intervals per seed are in "
        "`benchmarks/results/elpv.json`). Published: SVM 0.824, VGG19 0.884 (Deitsch 2019, their own split); VGG19 "
        "0.903 mono, 0.897 poly (Song 2024):",
        "",
        *tables.of([*headers, "minutes"], lines),
    ]


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
        f"without a better one changes accuracy by {tables.signed(worst, 'over_end')} at worst ({worst['setting']}). "
        "Accuracy (log-loss):",
        "",
        *tables.of(
            ["", *rules],
            [[s, *(f"{found[s, r]['accuracy']:.3f} ({found[s, r]['log_loss']:.3f})" for r in rules)] for s in settings],
        ),
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
        *tables.of(
            ["", "solar cells", "retained", "change", "same answers", "CKA, last stage", "drift", "Pareto"], lines
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
        [row["dataset"], row["labels"], named.get(row["tool"], row["tool"]), row["seeds"], row["threads"],
         f"{row['seconds']:.0f}",
         f"{row['accuracy']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})", tables.signed(row, "ours_more")]
        for row in rows
    ]  # fmt: skip
    return [
        "Fine-tuning of tf_efficientnet_lite0 from the same weights, labels and files, in the same time, each in a "
        "process of its own (`python -m benchmarks.quality.finetune_peers`, which says the rules; intervals are over "
        f"draws of labels and test images). Beyond the interval of the difference, ours by its defaults is ahead in "
        f"{ahead} of {len(against)} comparisons with a peer and behind in {behind}:",
        "",
        *tables.of(
            ["photos", "labels", "tool", "seeds", "cores", "seconds", "accuracy", "ours is right more often by"], lines
        ),
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
        *tables.of(["network", "method", "weights that learn", "step, ms", "of full", "memory, MB"], lines),
        *_reached([row for row in rows if "accuracy" in row]),
    ]


def _reached(rows: Rows) -> list[str]:
    lines = [[f"{row['network']}, {row['size']} px", row["start"], row["method"], tables.told(row, "accuracy", ""),
              "" if row["method"] == "full" else tables.told(row, "over_full", "+")] for row in rows]  # fmt: skip
    if not rows:
        return []
    return [
        "",
        f"What they reach in {rows[0]['steps']} steps of 32 on {rows[0]['data']}, {rows[0]['seeds']} seeds, the same "
        "test images, with 95 % intervals (`python -m benchmarks.quality.adapters`); the probe is fitted on the "
        "validation images, too, and is the same for every seed:",
        "",
        *tables.of(["network", "start", "method", "accuracy", "over full"], lines),
    ]


def _over_seeds(rows: Rows, key: str) -> str:
    if len(rows) > 1:
        return tables.spread([row[key] for row in rows])
    return f"{rows[0][key]:.3f} ({rows[0][f'{key}_low']:.3f} to {rows[0][f'{key}_high']:.3f})"


FINETUNING = (elpv, finetune_peers, adapters, forgetting, stopping)
