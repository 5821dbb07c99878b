"""What README says first: each aim with our figure, beside what there was to beat, and whether we did."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks import tables
from benchmarks.tables import Rows

Line = tuple[str, str, str, str]  # what was asked, ours, what it is beside, how they compare
GAIN = r"Starting from pretrained, SSL makes {} ([a-z ]+): (\+?-?[\d.]+) points \((.+?)\)"
ANSWERS = {"linear probe": "the linear probe", "fine-tuned": "fine-tuning"}  # in the table, and in a verdict
PHOTOS = {"elpv": "solar cells", "textile": "cloth", "tiles": "magnetic tiles", "cifar10": "CIFAR-10",
          "fashion": "Fashion-MNIST"}  # fmt: skip
VGG19 = 0.884  # Deitsch et al. 2019
PEERS = {"fastai": "fastai", "timm": "timm loop", "peft": "peft"}


def finetuning(rows: Rows) -> list[Line]:
    """Accuracy beside peers in the same time; the difference counts where its interval does not hold 0."""
    found = []
    for dataset, labels in dict.fromkeys((row["dataset"], row["labels"]) for row in rows if "seeds" in row):
        own = {r["tool"]: r for r in rows if "seeds" in r and (r["dataset"], r["labels"]) == (dataset, labels)}
        peers = {tool: own[tool] for tool in PEERS if tool in own}
        beside = ", ".join(f"{PEERS[tool]} {row['accuracy']:.3f}" for tool, row in peers.items())
        asked = f"accuracy from {labels} labels, {_photos(dataset)}, {own['ours']['budget']:.0f} s each on "
        asked += "one core" if own["ours"]["threads"] == 1 else f"{own['ours']['threads']} cores"
        how = _hardest(_how(row["ours_more_low"], row["ours_more_high"]) for row in peers.values())
        found.append((asked, f"{own['ours']['accuracy']:.3f}", beside, how))
    return found


def elpv(rows: Rows) -> list[Line]:
    """The best stage beside the published network, of those that have the most seeds."""
    seeds = Counter(row["stage"] for row in rows)
    stages = [stage for stage in seeds if seeds[stage] == max(seeds.values())]
    means = {stage: [row["accuracy"] for row in rows if row["stage"] == stage] for stage in stages}
    best = max(means, key=lambda stage: statistics.mean(means[stage]))
    gap, noise = statistics.mean(means[best]) - VGG19, statistics.stdev(means[best])
    return [(f"accuracy from all labels, solar cells ({best})", tables.spread(means[best]),
             f"VGG19 {VGG19} (published, another split)", _how(gap - noise, gap + noise))]  # fmt: skip


def forgetting(rows: Rows) -> list[Line]:
    """What the best remedy retains beside plain fine-tuning."""
    by = {name: [r for r in rows if r["remedy"] == name] for name in dict.fromkeys(row["remedy"] for row in rows)}
    new, old = ({name: statistics.mean(r[key] for r in own) for name, own in by.items()} for key in
                ("accuracy", "change"))  # fmt: skip
    best = max((name for name in by if new[name] >= new["plain"]), key=lambda name: old[name])
    said = {name: f"{old[name]:+.3f} ({name}, new task {new[name]:.3f})" for name in (best, "plain")}
    return [("change of the old accuracy while solar cells are learnt", said[best], said["plain"], "")]


def pretrain_step(rows: Rows) -> list[Line]:
    """How many times the images per second of the peers."""
    found = []
    for where in dict.fromkeys(map(tables.machine, rows)):
        own = [row for row in rows if tables.machine(row) == where]
        ratios = {peer: sorted(row[key] for row in own if key in row) for peer, key in
                  (("lightly's loops", "speedup_vs_lightly"), ("LightlyTrain", "speedup_vs_lightlytrain"))}  # fmt: skip
        said = ", ".join(f"{low:.1f} to {high:.1f} times {peer}" for peer, (low, *_, high) in ratios.items())
        found.append((f"images a second from files to the step, {len(own)} cases, {where}", said, "",
                      "ahead" if min(map(min, ratios.values())) > 1 else "not everywhere"))  # fmt: skip
    return found


def peer_quality(rows: Rows) -> list[Line]:
    """kNN after the same steps on the same photos as lightly's implementation."""
    found = []
    for row in (row for row in rows if row["side"] == "difference"):
        same = [r for r in rows if r["objective"] == row["objective"]]
        ours, theirs = (statistics.mean(r["knn"] for r in same if r["side"] == side) for side in ("ours", "lightly"))
        asked = f"kNN accuracy after {row['steps']} steps of {row['objective']}, {row['data']}"
        found.append((asked, f"{ours:.3f}", f"lightly's {theirs:.3f}", _how(row["knn_low"], row["knn_high"])))
    return found


def label_efficiency(rows: Rows) -> list[Line]:
    """What self-supervision adds to ImageNet features: over four folds where they were measured, else on one split."""
    others = {row["case"]: row for row in tables.rows_of("label_efficiency_sweep")}.values()
    folded = [row for row in others if row.get("folds", 1) > 1]
    single = {row["dataset"]: row for row in rows if row["dataset"] not in {row["dataset"] for row in folded}}.values()
    tuned = [row for row in others if ANSWERS["fine-tuned"] in row["verdict"]]
    probed = [_gain(row, "linear probe") for row in single]
    probed += [_gain(row, "linear probe", f", {row['set']}, {row['folds']} folds") for row in folded]
    return probed + [_gain(row, "fine-tuned") for row in tuned]


def _gain(row: Any, answer: str, how_made: str = "") -> Line:
    found = re.search(GAIN.format(ANSWERS[answer]), row["verdict"])
    assert found, f"{row['dataset']}: the verdict says nothing of {ANSWERS[answer]}"
    how, points, interval = found.groups()
    asked, word = f"{answer} after SSL, {_photos(row['dataset'])}{how_made}", {"better": "ahead", "worse": "behind"}
    return asked, f"{points} points ({interval})", "ImageNet features", word.get(how, "level")


def time_to_knn(rows: Rows) -> list[Line]:
    """How soon we are where lightly's loop ends, and where that says nothing."""
    found = []
    for row in (row for row in rows if "speedup" in row):
        asked = f"time to the kNN accuracy of lightly's loop, {row['case'].split(',')[0]}"
        ours = f"{row['speedup']:.1f} times as soon" if row["speedup"] else str(row["why"])
        how = "" if not row["speedup"] else "ahead" if row["speedup"] > 1 else "behind"
        found.append((asked, ours, f"lightly {row['lightly_s']:.0f} s", how))
    return found


def inspection(name: str, rows: Rows) -> list[Line]:
    """Image AUROC, and AUPRO where masks are known, beside anomalib's; level within the spread over seeds."""
    found = []
    for key, word in (("auroc", "AUROC"), ("aupro", "AUPRO of the maps")):
        own = {tool: [row[key] for row in rows if row["tool"] == tool and key in row] for tool in
               ("ours", "ours + 6 defects", "patchcore", "padim")}  # fmt: skip
        if not own["ours"]:
            continue
        best = max(statistics.mean(values) for tool, values in own.items() if tool in ("patchcore", "padim") and values)
        gap, noise = statistics.mean(own["ours"]) - best, statistics.stdev(own["ours"])
        knowing = f"; with 6 defects {statistics.mean(own['ours + 6 defects']):.3f}" if own["ours + 6 defects"] else ""
        beside = ", ".join(f"{peer} {statistics.mean(own[tool]):.3f}" for tool, peer in
                           (("patchcore", "PatchCore"), ("padim", "PaDiM")) if own[tool])  # fmt: skip
        found.append((f"{word}, {_photos(name)}, no defect seen", f"{tables.spread(own['ours'])}{knowing}", beside,
                      _how(gap - noise, gap + noise)))  # fmt: skip
    return found


def textile_fewshot(rows: Rows) -> list[Line]:
    """A few photos of each kind of cloth."""
    mean = rows[0]
    return [("accuracy from 50 + 25 + 25 photos of cloth", tables.told({**mean, "accuracy_low": mean["ci_low"],
             "accuracy_high": mean["ci_high"]}, "accuracy", ""), f"CLIP ViT-L/14 {mean['published']:.2f}",
             _how(mean["ci_low"] - mean["published"], mean["ci_high"] - mean["published"]))]  # fmt: skip


def promise(rows: Rows) -> list[Line]:
    """How often more good parts were rejected than promised."""
    worst = max(row["share_proven"] for row in rows)
    return [("false rejects proven above the promise", f"at most {worst:.1%} of 200 draws, {len(rows)} cases",
             "5 % are allowed", "kept" if worst <= 0.05 else "broken")]  # fmt: skip


CLAIMS: dict[str, Callable[[Rows], list[Line]]] = {
    "finetune_peers": finetuning,
    "elpv": elpv,
    "forgetting": forgetting,
    "pretrain_step": pretrain_step,
    "peer_quality": peer_quality,
    "time_to_knn": time_to_knn,
    "label_efficiency": label_efficiency,
    **{f"inspection_{name}": partial(inspection, name) for name in ("elpv", "tiles", "textile")},
    "textile_fewshot": textile_fewshot,
    "promise": promise,
}


def in_short() -> list[str]:
    """The table of all claims."""
    lines = [line for name, claim in CLAIMS.items() for line in claim(tables.rows_of(name))]
    return [
        "In short; every table, with the command that measures it again, is in [benchmarks/README.md](benchmarks/"
        "README.md). *Ahead* and *behind* are beyond the interval, or the spread over seeds where there is no "
        "interval; all else is *level*.",
        "",
        *tables.of(["", "ours", "beside", ""], lines),
    ]


def _photos(name: str) -> str:
    return PHOTOS.get(name, name)


def _how(low: float, high: float) -> str:
    return "ahead" if low > 0 else "behind" if high < 0 else "level"


def _hardest(how: Iterable[str]) -> str:
    """Beside several: ahead of all, behind one, or level."""
    found = set(how)
    return "behind" if "behind" in found else "ahead" if found == {"ahead"} else "level"
