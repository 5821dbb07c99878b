"""Which learning rate is a good default for pretraining? Short runs at several, from random and from ImageNet weights.

python -m benchmarks.quality.rates DATA [--cases simclr-resnet18 ...] [--rates 1e-4 3e-4 1e-3] [--steps 300] [--seeds 1]

DATA is anything labelled: its training photos are pretrained on without labels, and frozen features, as a run leaves
them (those that start from weights averaged half-way), are judged by those photos' labels, cross-validated: a default
is chosen here, and the test photos are for what is done with it. All else is the default.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.harness import earlier, write
from benchmarks.quality.rivals import Case, Photos, bounded, ours
from visionft import backbones
from visionft.backbone import Backbone
from visionft.evaluation.worth import Labelled
from visionft.kernels import keep_memory
from visionft.recipe import Optim

LITE = ("tf_efficientnet_lite0", "package:efficientnet-lite0")
SIAMESE = ("simclr", "vicreg", "dino", "byol", "simsiam", "swav", "barlow", "mocov3", "densecl")
CASES = {
    **{f"{name}-resnet18": Case(name, "resnet18", 64) for name in SIAMESE},
    "simclr-vit": Case("simclr", "vit_tiny_patch16_224", 64),
    "mae-vit": Case("mae", "vit_tiny_patch16_224", 96),
    "simclr-lite0-random": Case("simclr", LITE[0], 64),
    "simclr-lite0": Case("simclr", LITE[0], 64, weights=LITE[1]),
    "vicreg-lite0": Case("vicreg", LITE[0], 64, weights=LITE[1]),
    "dino-lite0": Case("dino", LITE[0], 64, weights=LITE[1]),
}


def main() -> None:
    """Every case, seed and rate that has no row yet; a rate of 0 is the start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=[*CASES])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    words = parser.parse_args()
    keep_memory()
    name = Path(words.data).name
    for which in words.cases:
        case = CASES[which]
        with tempfile.TemporaryDirectory() as place:
            photos = Photos.of(words.data, case.size, Path(place) / "photos")
            for seed in range(words.seeds):
                for rate in (0.0, *words.rates):
                    said = f"{name}, {which}, {words.steps} steps, rate {rate:g}, seed {seed}"
                    if any(row["case"] == said for row in earlier("rates")):
                        continue
                    torch.manual_seed(seed)
                    net = backbones.load(case.backbone, case.weights, size=case.size)
                    if rate:
                        out, how = Path(place) / f"{rate:g}-{seed}", Optim(lr=rate)
                        net, _ = ours(case, photos, out, steps=words.steps, seed=seed, optim=how)
                    row = {"case": said, "data": name, **vars(case), "steps": words.steps, "rate": rate, "seed": seed,
                           **judged(net, photos, case.size)}  # fmt: skip
                    print(row, flush=True)
                    write("rates", [row], f"python -m benchmarks.quality.rates {name} --steps {words.steps}", by="case")


def judged(net: Backbone, photos: Photos, size: int) -> dict[str, float]:
    """Accuracy of kNN and of a linear probe on training photos held out in turn, with 95 % intervals over photos."""
    ready = photos.ready
    part = Labelled(*ready.part(i for i, r in enumerate(ready.table) if r.split == "train"))
    found, row = part.worth(net, size).metrics(bounds=True), dict[str, float]()
    for name in ("probe", "knn"):
        row |= bounded(name, *(found[f"{name}_accuracy{end}"] for end in ("", "_low", "_high")))
    return row


if __name__ == "__main__":
    main()
