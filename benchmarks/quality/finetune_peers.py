"""Fine-tuning against fastai, a timm loop and peft's LoRA: same backbone, weights, images and time; who is right more?

python -m benchmarks.quality.finetune_peers [--peer-python PYTHON] [--datasets elpv fashion clothing] [--labels N...]
    [--tools NAME...] [--seeds 3] [--seconds 60] [--shared FOLDER] [--threads 2]

PYTHON is that of an environment with fastai, timm and peft (`pip install fastai timm peft`); a peer that it cannot
import is left out, and said to be. Solar cells come in a package, Fashion-MNIST in Debian's dataset-fashion-mnist,
clothing in FOLDER. With --threads 1 (and `taskset -c 1`) everybody has one core. Rows that are in
results/finetune_peers.json already are not measured again, so that the whole can be done in pieces, in any order. A
budget other than 60 is for trying: it writes finetune_peers_BUDGET.json.

The rule of time: --seconds for up to 200 labels, twice that for up to 500, four times for more, from files on disk to a
network that answers (imports and what is written beside them, `import_seconds`, apart). A peer's schedule needs to know
its epochs, so it gets as many as fill the budget by the pace of an epoch measured before, the last one perhaps running
over; ours must be done, run folder and report included, before it is up. `seconds` says what each took.

The rule of images: everybody reads the same PNGs, no larger than the network needs; which images have labels is drawn
by the seed, from all but the test images, which are the same for every seed. Whoever wants to choose by validation
images takes them from the labelled ones. Accuracy is that of the likeliest class. `seed` rows have intervals over test
images; `seeds` rows over seeds and test images, and what ours, by its defaults, is right more often than each.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.harness import earlier, write
from benchmarks.peers.job import TOOLS, Job, words_of
from benchmarks.quality.label_efficiency import LITE, SIZES, fashion, source
from benchmarks.turns import once
from visionft import backbones
from visionft.data.prepare import dealt, prepare
from visionft.data.records import Table
from visionft.data.split import first_of_each
from visionft.evaluation.bootstrap import bootstrap, crossed
from visionft.log import Console
from visionft.recipe import Finetune

ALL = 10**9
LABELS = {"elpv": (200, 500, ALL), "fashion": (2000,), "clothing": (ALL,)}
NEEDS = {"fastai": "fastai", "timm": "timm", "peft": "peft"}  # peer -> the module it cannot do without
OURS = "ours"
BUDGET = 60.0  # seconds for up to 200 labels
STEPS = {200: 1, 500: 2, ALL: 4}  # up to so many labels: times the budget
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Photos:
    """A labelled data set on disk, each image once, dealt to those that may have labels and those of the test."""

    name: str
    table: Table  # of the files
    pool: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(cls, name: str, shared: Path | None, place: Path) -> Photos:
        """Read, deal and write the images as PNGs, gray ones as gray."""
        place.mkdir()
        data = fashion(place / "fashion.csv", train=2000) if name == "fashion" else source(name, shared, place)
        ready = dealt(prepare(Finetune(data=data, size=SIZES[name]), Console(quiet=True), labelled=True), 0)
        records = []
        for at, record in enumerate(ready.table):
            image, file = ready.pixels[at], place / f"{at:06d}.png"
            gray = not np.ptp(image, axis=2).any()
            cv2.imwrite(str(file), image[..., 0] if gray else image[..., ::-1])
            records.append(dataclasses.replace(record, image=file))
        test = tuple(at for at, record in enumerate(records) if record.split == "test")
        pool = tuple(at for at, record in enumerate(records) if record.split != "test")
        return cls(name, dataclasses.replace(ready.table, records=tuple(records)), pool, test)

    def drawn(self, labels: int, seed: int) -> list[int]:
        """The images whose labels are known: so many in all, every class by its share."""
        share = min(1.0, labels / len(self.pool))
        return [self.pool[at] for at in first_of_each(self.table.take(self.pool), share, seed=seed)]

    def write(self, known: Iterable[int], path: Path) -> Path:
        """A CSV of the images with labels and those of the test."""
        rows = ["path,label,split"]
        for split, places in (("train", known), ("test", self.test)):
            rows += [f"{r.name},{self.table.classes[r.label or 0]},{split}" for r in self.table.take(places)]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return path


def seconds_for(labels: int, budget: float) -> float:
    """The time that everybody has."""
    return budget * next(times for most, times in STEPS.items() if labels <= most)


def measure(tool: str, job: Job, right: np.ndarray, python: str) -> dict[str, Any]:
    """Let one contestant train: its accuracy with the interval over test images, which it told right, its seconds."""
    told = once(python, "benchmarks.peers.job", tool, words_of(job), threads=job.threads)
    hits = np.load(job.answers).argmax(1) == right
    low, high = bootstrap(lambda counts: counts @ hits / len(hits), len(hits))
    return {
        "accuracy": round(float(hits.mean()), 4), "ci_low": round(low, 4), "ci_high": round(high, 4),
        **told, "right": packed(hits),
    }  # fmt: skip


def packed(hits: np.ndarray) -> str:
    """Which of the test images were told right, four in a hexadecimal digit."""
    return np.packbits(hits).tobytes().hex()


def unpacked(row: Mapping[str, Any]) -> np.ndarray:
    """What `packed` packed, N bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8), count=row["test_images"]).astype(bool)


def summaries(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Of the rows of one data set and number of labels: one for each tool, over seeds, with what ours has more."""
    single: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if "seed" in row:
            single.setdefault(row["tool"], {})[row["seed"]] = row
    return [_summary(tool, own, single.get(OURS, {})) for tool, own in single.items()]


def _summary(tool: str, own: Mapping[int, Mapping[str, Any]], ours: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    first = next(iter(own.values()))
    mean, low, high = crossed(np.array([unpacked(row) for row in own.values()], dtype=np.float64))
    made: dict[str, Any] = {
        "case": f"{first['dataset']}, {first['labels']} labels, {tool}, all seeds",
        "dataset": first["dataset"], "labels": first["labels"], "tool": tool, "seeds": len(own),
        "threads": first["threads"],
        "accuracy": round(mean, 4), "ci_low": round(low, 4), "ci_high": round(high, 4),
        "seconds": round(float(np.mean([row["seconds"] for row in own.values()])), 1), "budget": first["budget"],
    }  # fmt: skip
    both = sorted(own.keys() & ours.keys())
    if tool == OURS or not both:
        return made
    gain = np.array([unpacked(ours[seed]).astype(np.float64) - unpacked(own[seed]) for seed in both])
    names = ("ours_more", "ours_more_low", "ours_more_high")
    return made | dict(zip(names, (round(value, 4) for value in crossed(gain)), strict=True))


def importable(python: str, tools: Iterable[str]) -> list[str]:
    """The tools that can run, and a line about each that cannot."""
    ask = "import importlib.util as i, sys; sys.exit(0 if i.find_spec(sys.argv[1]) else 1)"
    able = []
    for tool in tools:
        if tool in NEEDS and subprocess.run([python, "-c", ask, NEEDS[tool]], check=False).returncode:
            print(f"left out: {tool}, which {python} cannot import; pip install {NEEDS[tool]} there, or --peer-python")
        else:
            able.append(tool)
    return able


def run(photos: Photos, words: argparse.Namespace, weights: Path, place: Path, name: str, command: str) -> None:
    """One data set; the file is written after every contestant."""
    right = photos.table.take(photos.test).labels
    for labels in dict.fromkeys(min(asked, len(photos.pool)) for asked in words.labels or LABELS[photos.name]):
        for seed in range(words.seeds):
            known = photos.drawn(labels, seed)
            table = photos.write(known, place / "images.csv")
            for tool in words.tools:
                case = f"{photos.name}, {labels} labels, {tool}, seed {seed}"
                before = earlier(name)
                if any(row["case"] == case for row in before):
                    continue
                budget = seconds_for(labels, words.seconds)
                job = Job(str(table), list(photos.table.classes), LITE["backbone"], str(weights), SIZES[photos.name],
                          budget, seed, words.threads, str(place / "answers.npy"))  # fmt: skip
                with tempfile.TemporaryDirectory(dir=place) as own:
                    job = dataclasses.replace(job, answers=str(Path(own) / "answers.npy"))
                    told = measure(tool, job, right, words.peer_python if tool in NEEDS else sys.executable)
                row = {"case": case, "dataset": photos.name, "labels": labels, "tool": tool, "seed": seed,
                       "threads": words.threads, "budget": budget, "images": len(known),
                       "test_images": len(right), **told}  # fmt: skip
                same = [r for r in before if (r["dataset"], r["labels"]) == (photos.name, labels)]
                write(name, [row, *summaries([*same, row])], command, by="case")
                print({key: value for key, value in row.items() if key != "right"}, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Every data set, number of labels, seed and tool that has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--datasets", nargs="+", default=[*LABELS], choices=[*LABELS])
    parser.add_argument("--labels", type=int, nargs="+")
    parser.add_argument(
        "--tools", nargs="+", default=[tool for tool in TOOLS if tool != "ours, auto"], choices=[*TOOLS]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=BUDGET)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    words = parser.parse_args(arguments)
    torch.set_num_threads(words.threads)
    words.tools = importable(words.peer_python, words.tools)
    if "clothing" in words.datasets and words.shared is None:
        words.datasets.remove("clothing")
        print("left out: clothing, which lies in no package; say --shared FOLDER")
    name = "finetune_peers" + ("" if words.seconds == BUDGET else f"_{words.seconds:g}")
    command = f"python -m benchmarks.quality.finetune_peers --peer-python PYTHON --datasets {' '.join(words.datasets)}"
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place) / "weights.safetensors"
        net = backbones.load(LITE["backbone"], LITE["weights"]).net
        save_file({key: tensor.contiguous() for key, tensor in net.state_dict().items()}, weights)
        for dataset in words.datasets:
            photos = Photos.of(dataset, words.shared, Path(place) / dataset)
            run(
                photos,
                words,
                weights,
                Path(place),
                name,
                f"{command} --seeds {words.seeds} --seconds {words.seconds:g} --threads {words.threads}",
            )


if __name__ == "__main__":
    main()
