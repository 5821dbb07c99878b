"""How accuracy grows with labels from four starts: scratch, scratch + SSL, ImageNet, ImageNet + SSL.

python -m benchmarks.quality.label_efficiency [DATASET...] [--shared FOLDER] [--minutes 5] [--folds 1] [--set WORD...]

It runs `visionft study` on solar cells and textile (packages), Fashion-MNIST (Debian's package dataset-fashion-mnist)
and, where FOLDER has them, clothing and a part of CIFAR-10. Test images are never trained on, with or without labels.
--folds holds out that many quarters of the images in turn, each with its own pretraining, where the source names no
test images. --set takes further words of `visionft study`, such as objective=densecl or
pretrain.batchnorm=train; rows are then written to label_efficiency_sweep.json, each with its `set`.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import write
from visionft import config
from visionft.evaluation.starts import USUAL
from visionft.journeys.study import study
from visionft.verbs import Study

FASHION = Path("/usr/share/datasets/fashion-mnist")
KINDS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
SIZES = {"elpv": 128, "textile": 128, "fashion": 64, "clothing": 128, "cifar10": 64}
LITE = {"backbone": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0"}


def source(name: str, shared: Path | None, place: Path) -> Any:
    """What to hand to `data=`."""
    if name in ("elpv", "textile"):
        return f"sample:{name}"
    if name == "fashion":
        return fashion(place / "fashion.csv")
    if shared is None:
        raise SystemExit(f"{name} lies in no package; say --shared FOLDER")
    return str(shared / "classification" / {"clothing": "clothing", "cifar10": "cifar10-8k"}[name])


def fashion(path: Path, train: int = 6000, test: int = 2000) -> str:
    """Write the first images of Fashion-MNIST as PNGs and a CSV that names them; returns its path."""
    import cv2

    rows = ["path,label,split"]
    for split, prefix, count in (("train", "train", train), ("test", "t10k", test)):
        images = np.frombuffer(_unzipped(f"{prefix}-images-idx3-ubyte")[16:], np.uint8).reshape(-1, 28, 28)[:count]
        labels = _unzipped(f"{prefix}-labels-idx1-ubyte")[8 : 8 + count]
        for at, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = path.parent / split / f"{at:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), image)
            rows.append(f"{file.relative_to(path.parent)},{KINDS[label]},{split}")
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def _unzipped(name: str) -> bytes:
    plain = FASHION / name
    return plain.read_bytes() if plain.is_file() else gzip.decompress((FASHION / f"{name}.gz").read_bytes())


def rows_of(name: str, words: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """One dataset: a row for every start, answer and share of the labels."""
    given = {
        "data": source(name, words.shared, place), **LITE, "size": SIZES[name], "seeds": words.seeds,
        "pretrain": {"minutes": words.minutes}, "finetune": {"tune": words.tune}, "starts": words.starts,
        "folds": words.folds, "out": str(place / "-".join(["study", name, *words.set])),
    }  # fmt: skip
    done = study(config.load(Study, given, *words.set))
    how = {"set": " ".join(words.set), "case": f"{name} {' '.join(words.set)}"} if words.set else {}
    shares = {row["labels"]: row["fraction"] for row in done.rows}
    return [
        {
            "dataset": name, **how, "start": start, "answer": answer, "fraction": shares[labels], "labels": labels,
            "seeds": words.seeds, "folds": words.folds, "accuracy": round(accuracy, 4), "ci_low": round(low, 4),
            "ci_high": round(high, 4), "verdict": done.words,
        }
        for (start, answer), points in done.curves.items()
        for labels, accuracy, low, high in points
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Every dataset in turn; what is finished in --out is not done again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", default=["elpv", "textile"])
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--tune", default="probe-then-full")
    parser.add_argument("--starts", nargs="+", default=[*USUAL])
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/label_efficiency"))
    words = parser.parse_args(arguments)
    words.out.mkdir(parents=True, exist_ok=True)
    asked = f"--minutes {words.minutes:g} --seeds {words.seeds} --tune {words.tune} --starts {' '.join(words.starts)}"
    asked += f" --folds {words.folds}" if words.folds > 1 else ""
    file, by = ("label_efficiency_sweep", "case") if words.set else ("label_efficiency", "dataset")
    asked += f" --set {' '.join(words.set)}" if words.set else ""
    for name in words.datasets:
        command = f"python -m benchmarks.quality.label_efficiency {name} {asked}"
        print(write(file, rows_of(name, words, words.out), command, by=by))


if __name__ == "__main__":
    main()
