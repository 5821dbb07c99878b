"""What ImageNet weights forget while they learn solar cells, plainly and with each remedy.

python -m benchmarks.quality.forgetting --shared FOLDER [--seeds 0 1 2]

tf_efficientnet_lite0 (package:efficientnet-lite0) on sample:elpv at 128 px, 150 steps of 32 images from a probe's head,
in bf16, nothing stopped early. Retained: the 250 ImageNet photos of FOLDER/weights-check/imagenet-250, one a class, of
which every run judges the same 125, on which no remedy trains and no choice is made: "retained" is how often the
thousand-way classifier that came with the weights, put on the new features as it was, is right.

Two weights of each remedy are tried on seed 0: the larger is taken unless its accuracy on the solar cells' validation
images lies more than a point below the plain run's, then the smaller. WiSE-FT takes half of the way. Test images and
judged photos have no part in that. An interrupted benchmark goes on with the runs that are finished in --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import visionft as vf
from benchmarks.harness import write

LITE = {"backbone": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0", "size": 128}
FIXED = {"steps": 150, "batch": 32, "precision": "bf16", "patience": 0, "eval_every": 1000, "save_every": 50}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "l2sp": {"keep": "l2sp"},
    "ewc": {"keep": "ewc"},
    "lwf": {"keep": "lwf"},
    "replay": {"keep": "replay"},
    "wise": {"keep": {"name": "wise", "share": 0.5}},
    "layerwise": {"tune": "layerwise"},
    "lora": {"adapter": "lora", "optim": {"lr": 1e-3}},
    "probe": {"tune": "probe"},
}
TRIED = {"l2sp": (1.0, 0.1), "ewc": (1.0, 0.1), "lwf": (3.0, 1.0), "replay": (3.0, 1.0)}  # the larger first
POINT = 0.01


def photos(shared: Path) -> tuple[list[str], list[str]]:
    """Files and the synsets that their names say (0004_n01494475.jpg)."""
    files = sorted((shared / "weights-check" / "imagenet-250").glob("*.jpg"))
    if not files:
        raise SystemExit(f"{shared} has no weights-check/imagenet-250")
    return [str(file) for file in files], [file.stem.split("_")[1] for file in files]


def row(name: str, seed: int, weight: float | None, words: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune once, or read what did; returns what is kept of it, with the validation accuracy."""
    out = words.out / f"{name}{'' if weight is None else f'-{weight:g}'}-{seed}"
    way = WAYS[name] if weight is None else {"keep": {"name": name, "weight": weight}}
    if not (out / "row.json").is_file():
        run = vf.finetune(
            "sample:elpv", **LITE, **FIXED, **way, retained=photos(words.shared), seed=seed, out=str(out), quiet=True
        )
        right = run.validation.get("finetuned", run.validation["probe"]).argmax(1) == run.val.labels
        info = json.loads((out / "run.json").read_text())
        made = (
            {"remedy": name, "weight": weight, "seed": seed}
            | _numbers(info)
            | {"validation": float(right.float().mean())}
        )
        (out / "row.json").write_text(json.dumps(made))
    found: dict[str, Any] = json.loads((out / "row.json").read_text())
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}, flush=True)
    return found


def _numbers(info: Mapping[str, Any]) -> dict[str, float]:
    test, lost = info["metrics"]["finetuned"], info["forgetting"]
    saved, names = lost["saved"], ("", "_low", "_high")
    return {
        **{f"accuracy{end}": test[f"accuracy{end}"] for end in names},
        "auroc": test["auroc"],
        **{f"retained{end}": saved[f"old_accuracy{end}"] for end in names},
        **{f"change{end}": saved[f"old_accuracy_change{end}"] for end in names},
        "agreement": saved["agreement"],
        "cka_of_the_last_stage": lost["stages"][-1]["cka"],
        "drift": saved["drift"],
        "seconds": info["seconds"],
    }


def chosen(words: argparse.Namespace) -> dict[str, float]:
    """The weight of each remedy, by seed 0's validation images."""
    least = row("plain", 0, None, words)["validation"] - POINT
    return {name: large if row(name, 0, large, words)["validation"] >= least else small
            for name, (large, small) in TRIED.items()}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Every way, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"))
    words = parser.parse_args(arguments)
    torch.set_num_threads(1)
    weights = chosen(words)
    for seed in words.seeds:
        rows = [row(name, seed, weights.get(name), words) for name in WAYS]
        kept = [{k: round(v, 4) if isinstance(v, float) else v for k, v in each.items()} for each in rows]
        print(write("forgetting", kept, f"python -m benchmarks.quality.forgetting --seeds {seed}", by="seed"))


if __name__ == "__main__":
    main()
