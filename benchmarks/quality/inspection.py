"""Inspection against anomalib's PatchCore and PaDiM: same backbone weights, same good images, same test images.

python -m benchmarks.quality.inspection DATA... [--peer-python PYTHON] [--tools NAME...] [--seeds 3] [--shared FOLDER]
    [--threads 2] [--defects 6]

DATA is elpv (monocrystalline solar cells; 441 flawless ones to fit; all others are the test, those with any probability
of a defect being defective), textile (300 good images to fit; 200 good, 200 local, 200 global to test) or tiles
(magnetic tiles with pixel masks, from FOLDER; 300 good to fit). The seed draws which. PYTHON is that of an environment
with anomalib; what it cannot import is left out, and said to be. Every contestant runs in a process of its own, one
after the other, in another order for each seed. Rows that results/inspection_DATA.json has are not measured again.

`ours` has seen no defect; `ours + N defects` has chosen its eyes by N real ones that are not among the test images,
the same share of every kind. Both see photos as they are, `ours, shrunk` with as many pixels as anomalib's, on
average, `ours, scale=1.5` with more than there are.
anomalib gets a bank as large as ours, and the size in pixels that the facts of its documentation use, 224. Its scores
are raw: what its users get is clamped to 0..1 by the scores of good images, and the AUROC of that is `auroc_as_told`.
Times are of two cores: fit from files; prediction from files, and of the network on decoded pixels alone (`model_ms`,
by batch) beside that of our backbone alone (`backbone_ms`).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import save_file

from benchmarks.harness import earlier, write
from benchmarks.peers import anomalib_job
from benchmarks.quality import inspection_ours
from benchmarks.turns import once
from visionft import backbones
from visionft.annotations.layouts import read_marked
from visionft.annotations.marked import NO_DEFECT
from visionft.data.samples import elpv, textile
from visionft.evaluation.anomaly import Pixels, f1_max
from visionft.evaluation.ranking import auroc, auroc_interval
from visionft.inspection.where import grown

BACKBONE, WEIGHTS = "tf_efficientnet_lite0", "package:efficientnet-lite0"
SIZE, BANK = 224, 2000
PATCHES = (SIZE // 8) ** 2  # of an image, as anomalib sees it
FITTED = {"elpv": 441, "textile": 300, "tiles": 300}
TESTED = 200  # images of each kind of textile
BORDER = {"textile": 2}  # white lines at the edge of these images
KNOWING, SHRUNK, ENLARGED = "ours + defects", "ours, shrunk", "ours, scale=1.5"
TOOLS = ("ours", "patchcore", "padim")


@dataclass(frozen=True)
class Photos:
    """Files to fit, files to test with their kinds and where known their masks, and files of defects to choose by."""

    good: list[str]
    test: list[str]
    kinds: list[str]
    masks: dict[str, Any]  # file -> function of height and width
    defects: list[str]

    @property
    def defective(self) -> np.ndarray:
        """Which of the test images have a defect, N."""
        return np.array([kind != NO_DEFECT for kind in self.kinds])


def photos(data: str, seed: int, shared: Path | None, defects: int) -> Photos:
    """Deal the images of a data set; those of defects to choose by leave the test."""
    rng = np.random.default_rng(seed)
    kinds, masks = _kinds(data, shared)
    by_kind = {kind: list(rng.permutation([f for f, own in kinds.items() if own == kind])) for kind in
               sorted(set(kinds.values()))}  # fmt: skip
    good = by_kind.pop(NO_DEFECT)
    chosen = [str(files.pop()) for at in range(defects) for files in [list(by_kind.values())[at % len(by_kind)]]]
    cut = TESTED if data == "textile" else None
    fit, rest = good[: FITTED[data]], good[FITTED[data] :][:cut]
    tested = {str(f): NO_DEFECT for f in rest} | {str(f): k for k, files in by_kind.items() for f in files[:cut]}
    return Photos([str(f) for f in fit], [*tested], [*tested.values()], masks, chosen)


def _kinds(data: str, shared: Path | None) -> tuple[dict[str, str], dict[str, Any]]:
    """File -> kind of defect, and file -> its mask where that is known."""
    if data == "tiles":
        assert shared, "--shared names the folder with defect/magnetic-tile"
        found = read_marked(shared / "defect" / "magnetic-tile")
        return {str(m.image): m.kind for m in found}, {str(m.image): m.mask for m in found}
    if data == "textile":
        table = textile()
        names = [NO_DEFECT, *table.classes[1:]]
        return {r.name: names[r.label or 0] for r in table}, {}
    return {name: f"p = {p:.2f}" if p else NO_DEFECT for name, (p, group) in cells().items() if group == "mono"}, {}


def cells() -> dict[str, tuple[float, str]]:
    """File of a solar cell -> how probably it is defective, by those who labelled it, and its type."""
    table = elpv()
    lines = (Path(table[0].name).parents[1] / "labels.csv").read_text().splitlines()
    shares = [float(line.split()[1]) for line in lines if line.strip()]
    return {r.name: (p, str(r.group)) for r, p in zip(table, shares, strict=True)}


def ours(data: str, some: Photos, place: Path, words: argparse.Namespace, tool: str) -> tuple[dict[str, Any], Any]:
    """Fit and ask ours; its facts, and scores and maps."""
    scale = {SHRUNK: _scale(some), ENLARGED: 1.5}.get(tool, 1.0)
    job = inspection_ours.Job(
        good=some.good, test=some.test, out=str(place / "ours.npz"), defects=some.defects if tool == KNOWING else (),
        words={"false_reject": 0.01, "border": BORDER.get(data, 0), "scale": scale}, threads=words.threads,
        maps=bool(some.masks),
    ).write(place / "ours.json")  # fmt: skip
    told = once(sys.executable, "benchmarks.quality.inspection_ours", job, threads=words.threads)
    return told, np.load(place / "ours.npz")


def _scale(some: Photos) -> float:
    """Of photos that are left with as many pixels as anomalib's have, on average."""
    pixels = statistics.mean(math.prod(Image.open(file).size) for file in some.good)
    return round(SIZE / math.sqrt(pixels), 3)


def anomalib(model: str, some: Photos, place: Path, seed: int, words: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Fit and ask anomalib; a tenth of the good images is what it normalises by, after it has learnt from them."""
    weights = place / "weights.safetensors"
    save_file(backbones.load(BACKBONE, WEIGHTS).net.state_dict(), weights)
    wide = model == "padim"
    layers = ["blocks.1", "blocks.2", "blocks.4"] if wide else ["blocks.2", "blocks.4"]
    job = anomalib_job.Job(
        good=some.good, test=some.test, out=str(place / "peer.npz"), model=model, weights=str(weights), layers=layers,
        size=SIZE, held_out=some.good[::10], coreset=BANK / (PATCHES * len(some.good)),
        n_features=100 if wide else None, seed=seed, threads=words.threads,
    ).write(place / "peer.json")  # fmt: skip
    told = once(words.peer_python, "benchmarks.peers.anomalib_job", job, threads=words.threads)
    return told, np.load(place / "peer.npz")


def judged(some: Photos, answers: Any) -> dict[str, Any]:
    """Image and, where masks are known, pixel numbers of a contestant's scores."""
    scores, truth = answers["raw"], some.defective
    low, high = auroc_interval(scores, truth)
    row = {"auroc": auroc(scores, truth), "auroc_low": low, "auroc_high": high, "f1max": f1_max(scores, truth)[0]}
    for kind in dict.fromkeys(some.kinds):
        if kind != NO_DEFECT:
            own = np.array([k in (kind, NO_DEFECT) for k in some.kinds])
            row[f"auroc/{kind}"] = auroc(scores[own], truth[own])
    if "normalised" in answers:
        row["auroc_as_told"] = auroc(answers["normalised"], truth)
    if "reject" in answers:
        row["overkill"] = float(answers["reject"][~truth].mean())
        row["escapes"] = float((~answers["reject"][truth]).mean())
    found = {key: round(float(value), 4) for key, value in row.items()}
    return found | (_pixels(some, answers) if some.masks else {})


def _pixels(some: Photos, answers: Any) -> dict[str, float]:
    """Pixel AUROC and AUPRO in the images' own pixels; defects that nobody drew are left out."""
    sizes = [Image.open(file).size[::-1] for file in some.test]
    maps = [_map(answers, at, size) for at, size in enumerate(sizes)]
    pixels = Pixels(min(float(m.min()) for m in maps), max(float(m.max()) for m in maps))
    for file, kind, size, heat in zip(some.test, some.kinds, sizes, maps, strict=True):
        mask = np.zeros(size, bool) if kind == NO_DEFECT else some.masks[file](*size)
        if mask is not None:
            pixels.add(heat, mask)
    return {"pixel_auroc": round(pixels.auroc(), 4), "aupro": round(pixels.aupro(), 4)}


def _map(answers: Any, at: int, size: tuple[int, int]) -> np.ndarray:
    heat = answers["maps"][at] if "maps" in answers else answers[f"map_{at}"]
    return grown(heat.astype(np.float32), *size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Every data set, seed and tool that has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=[*FITTED])
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--tools", nargs="+", default=[*TOOLS], choices=[*TOOLS, KNOWING, SHRUNK, ENLARGED])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--defects", type=int, default=6)
    words = parser.parse_args(arguments)
    for data in words.data:
        for seed in range(words.seeds):
            some = photos(data, seed, words.shared, words.defects)
            for tool in [*words.tools[seed % len(words.tools) :], *words.tools[: seed % len(words.tools)]]:
                _measure(data, tool, seed, some, words)


def _measure(data: str, tool: str, seed: int, some: Photos, words: argparse.Namespace) -> None:
    chosen = tool == KNOWING
    named = f"ours + {words.defects} defects" if chosen else tool
    name, case = f"inspection_{data}", f"{data}, {named}, seed {seed}"
    if any(row["case"] == case for row in earlier(name)):
        return
    with tempfile.TemporaryDirectory() as place:
        run = (data, some, Path(place), words)
        told, answers = ours(*run, tool) if tool.startswith("ours") else anomalib(
            tool, some, Path(place), seed, words
        )  # fmt: skip
        row = {"case": case, "data": data, "tool": named, "seed": seed, "labels": words.defects if chosen else 0,
               "fitted": len(some.good), "tested": len(some.test), **judged(some, answers), **told}  # fmt: skip
    write(name, [row], " ".join(["python -m benchmarks.quality.inspection", data]), by="case")
    print(row, flush=True)


if __name__ == "__main__":
    main()
