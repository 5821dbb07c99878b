"""What one process of `test_gloo.py` does: runs of every objective, batch norms, a whole recipe, written down.

Started once alone and once per rank, with the environment that torchrun would set.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from visionft import parallel, precision
from visionft.api import pretrain
from visionft.backbone import Backbone
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.data.views import Views
from visionft.objective import find
from visionft.recipe import Optim, Recipe
from visionft.retention.remedies import REMEDIES
from visionft.tasks.classify import Classify
from visionft.train import fit

STEPS, BATCH, SIDE = 4, 8, 32
OPTIM = Optim(name="sgd", lr=0.01)  # Adam divides rounding errors by themselves wherever a gradient should be zero
TEACHER = {"teacher": "test_efficientnet", "weights": "none"}
RUNS: dict[str, tuple[Any, str, int]] = {  # name -> objective (and remedy), backbone, accumulate
    "classify with batch norm": ("classify", "test_resnet", 1),
    "classify with layer norm": ("classify", "test_vit", 1),
    "classify with batch norm, accumulated": ("classify", "test_efficientnet", 2),
    "simclr with batch norm": ("simclr", "test_resnet", 1),
    "simclr with layer norm, accumulated": ("simclr", "test_vit", 2),
    "decoupled simclr": ({"name": "simclr", "loss": "dcl"}, "test_vit", 1),
    "dino with batch norm": ({"name": "dino", "prototypes": 64}, "test_resnet", 1),
    "dino with layer norm, accumulated": ({"name": "dino", "prototypes": 64}, "test_vit", 2),
    "distill with batch norm": ({"name": "distill", **TEACHER}, "test_resnet", 1),
    "distill with a queue, accumulated": ({"name": "distill", **TEACHER, "loss": "queue", "queue": 10}, "test_vit", 2),
    "byol with batch norm": ({"name": "byol", "width": 64}, "test_byobnet", 1),
    "byol with layer norm, accumulated": ({"name": "byol", "width": 64}, "test_vit", 2),
    "simsiam with batch norm": ({"name": "simsiam", "width": 64}, "test_resnet", 1),
    "simsiam with layer norm, accumulated": ({"name": "simsiam", "width": 64}, "test_vit", 2),
    "mocov3 with batch norm": ({"name": "mocov3", "width": 64}, "test_byobnet", 1),
    "mocov3 with layer norm, accumulated": ({"name": "mocov3", "width": 64}, "test_vit", 2),
    "densecl with batch norm": ("densecl", "test_resnet", 1),
    "densecl with layer norm, accumulated": ("densecl", "test_vit", 2),
    "classify kept by its Fisher information": (("classify", "ewc"), "test_resnet", 1),
    "classify kept by replay, accumulated": (("classify", "replay"), "test_vit", 2),
    "mae": ("mae", "test_vit", 1),
    "mae, accumulated": ("mae", "test_vit", 2),
    "simmim with batch norm": ("simmim", "test_resnet", 1),
    "simmim with a norm behind the maps": ("simmim", "test_convnext", 1),
    "simmim with layer norm, accumulated": ("simmim", "test_vit", 2),
    "ijepa": ("ijepa", "test_vit", 1),
    "ijepa, accumulated": ("ijepa", "test_vit2", 2),
    "dinov2 with batch norm": ({"name": "dinov2", "prototypes": 64}, "test_resnet", 1),
    "dinov2 with layer norm": ({"name": "dinov2", "prototypes": 64, "kernel": 1.0}, "test_vit", 1),
    "dinov2 centred, accumulated": ({"name": "dinov2", "prototypes": 64, "targets": "centre"}, "test_vit", 2),
    "swav with batch norm": ({"name": "swav", "prototypes": 16, "frozen": 0.3}, "test_resnet", 1),
    "swav with layer norm and a queue, accumulated": (
        {"name": "swav", "prototypes": 16, "queue": 10, "wait": 0.5, "frozen": 0.3},
        "test_vit",
        2,
    ),
    "vicreg with batch norm": ({"name": "vicreg", "width": 64}, "test_resnet", 1),
    "vicreg with layer norm, accumulated": ({"name": "vicreg", "width": 64}, "test_vit", 2),
    "barlow with batch norm": ({"name": "barlow", "width": 64}, "test_resnet", 1),
    "barlow with layer norm, accumulated": ({"name": "barlow", "width": 64}, "test_vit", 2),
    "lejepa with batch norm": ("lejepa", "test_resnet", 1),
    "lejepa with layer norm, accumulated": ("lejepa", "test_vit", 2),
}
NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {  # name -> module, shape of its input
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), (8, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (8, 3, 5, 4)),
    "BatchNorm2d without weights": (lambda: nn.BatchNorm2d(3, affine=False), (8, 3, 5, 4)),
    "BatchNorm2d with a cumulative mean": (lambda: nn.BatchNorm2d(3, momentum=None), (8, 3, 5, 4)),
    "timm BatchNormAct2d": (lambda: BatchNormAct2d(3), (8, 3, 5, 4)),
}


def images() -> list[np.ndarray]:
    """24 gratings of three directions in noise."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:40, :40]
    waves = [np.sin((x, y, x + y)[at % 3] / rng.uniform(1, 3))[..., None] for at in range(24)]
    return [(128 + 60 * wave + rng.normal(0, 30, (40, 40, 3))).clip(0, 255).astype(np.uint8) for wave in waves]


def run(
    choice: Any, model: str, accumulate: int, arithmetic: str = "fp32"
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The losses of a few steps, and the weights after them."""
    torch.manual_seed(0)
    name, keep = choice if isinstance(choice, tuple) else (choice, "")
    cls, options = find(name)
    objective = cls(Backbone(model, size=SIDE), **({"classes": 3} if name == "classify" else {}), **options)
    sides = {key: objective.backbone.side(SIDE * view.share) for key, view in objective.sees.items()}
    columns = objective.columns(images(), scan(Table.of(images())).table, SIDE)
    data: Any = Views(images(), objective.sees, sides, labels=np.arange(24) % 3, columns=columns)
    if keep:
        objective = REMEDIES[keep](objective, data)
        data = objective.deal(data, data)
    losses: list[dict[str, float]] = []
    recipe = Recipe(steps=STEPS, batch=BATCH, accumulate=accumulate, precision=arithmetic, log_every=1, optim=OPTIM)
    clocks = {"seconds", "seconds_left", "images_per_second"}
    fit(objective, data, recipe, log=lambda _, said: losses.append({k: said[k] for k in said.keys() - clocks}))
    return losses, objective.state_dict()


def tight() -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """A run in which the second of two processes has memory for two images at a time, and the first for all."""
    own = Classify.forward

    def forward(self: Classify, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if int(os.environ.get("RANK", 0)) and len(batch["image"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(self, batch)

    Classify.forward = forward  # type: ignore[method-assign]
    try:
        return run("classify", "test_vit", 1)
    finally:
        Classify.forward = own  # type: ignore[method-assign]


def raced() -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """A run that chooses its arithmetic, for which the second of two processes takes more rounds, and says bf16."""
    own, second = precision.raced, int(os.environ.get("RANK", 0))

    def race(steps: Mapping[str, Callable[[], None]]) -> dict[str, float]:
        for _ in range(1 + 2 * second):
            for step in steps.values():
                step()
        return {"fp32": 2.0, "bf16": 1.0} if second else {"fp32": 1.0, "bf16": 2.0}

    precision.raced = race
    try:
        return run("simclr", "test_resnet", 1, "auto")
    finally:
        precision.raced = own


def recalibrated() -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """A run that keeps the best of its evaluations, which only the first process makes, and measures its norms anew."""
    torch.manual_seed(0)
    objective = find("classify")[0](Backbone("test_resnet", size=SIDE), classes=3)
    data = Views(images(), objective.sees, {"image": SIDE}, labels=np.arange(24) % 3)
    seen = iter([3.0, 1.0, 2.0])
    recipe = Recipe(steps=STEPS, batch=BATCH, precision="fp32", optim=OPTIM, batchnorm="recalibrate", eval_every=1,
                    metric="loss", patience=9)  # fmt: skip
    done = fit(objective, data, recipe, evaluate=lambda _: {"loss": next(seen, 4.0)})
    return [{"best": done.best_step, **done.metrics}], objective.state_dict()


def norm(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Outputs, gradients and statistics of a batch norm after two batches; rows of x belong to ranks in order."""
    torch.manual_seed(0)
    module = make()
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_()
    if parallel.world() > 1:
        parallel.synchronise(module)
    share = slice(parallel.rank() * shape[0] // parallel.world(), (parallel.rank() + 1) * shape[0] // parallel.world())
    for _ in range(2):
        whole, pull = 2 * torch.randn(shape) + 1, torch.randn(shape)
        x = whole[share].clone().requires_grad_()
        module.zero_grad()
        y = module(x)
        (y * pull[share]).sum().backward()
    parts = {"output": y.detach(), "input gradient": x.grad}
    summed = {f"gradient of {name}": p.grad for name, p in module.named_parameters()}
    return {**parts, **summed, **{name: b.float() for name, b in module.named_buffers()}}


def recipe(out: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A whole pretraining run, with its folder, judged and chosen by a few labels."""
    labels = out.parent / f"{out.name}-labels"
    for at, image in enumerate(images()):
        file = labels / "abc"[at % 3] / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
    made = pretrain(
        images(), backbone="test_resnet", weights="none", objective="simclr", steps=4, batch=8, size=SIDE,
        probe=str(labels), precision="fp32", eval_every=2, log_every=1, cache="ram", out=str(out), quiet=True,
    )  # fmt: skip
    assert (out / "run.json").is_file()  # for everybody
    return {"metrics": made.metrics, "verdict": made.verdict, "start": made.start}, made.backbone.state_dict()


def results(folder: Path) -> Iterator[tuple[str, Any, dict[str, Tensor]]]:
    """Every case by name: what can be written as JSON, and tensors."""
    place = folder / f"run-of-{os.environ.get('WORLD_SIZE', 1)}"
    yield ("whole run", *recipe(place))  # first: it must join the other process by itself
    for name, case in RUNS.items():
        losses, state = run(*case)
        yield name, losses, state
    yield ("tight", *tight())
    yield ("raced", *raced())
    yield ("recalibrated", *recalibrated())
    for name, kind in NORMS.items():
        yield name, None, norm(*kind)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    said: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        for name, numbers, state in results(folder):
            said[name] = numbers
            tensors |= {f"{name}|{key}": value.contiguous().clone() for key, value in state.items()}
    said["complaints"] = sorted({str(c.message) for c in complaints if "visionft" in c.filename})
    mine = folder / f"rank{parallel.rank()}-of-{parallel.world()}"
    save_file(tensors, mine.with_suffix(".safetensors"))
    mine.with_suffix(".json").write_text(json.dumps(said))
    if parallel.world() > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
