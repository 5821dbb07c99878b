"""How much faster the pieces of `visionft.kernels` make depthwise convolutions, and the networks made of them, train.

    python -m benchmarks.speed.depthwise          three minutes on two idle cores; writes results/depthwise.json

Everything is channels last. "torch" and "ours" are the same modules, without and within `fast_kernels`. With frozen
norms (statistics and weights, as pretraining from weights and fine-tuning have them) ours folds them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import create_conv2d

from benchmarks.harness import interleave, matmul_rate, medians, write
from visionft.folding import foldable
from visionft.kernels import Kernels, fast_kernels

LAYERS = [  # channels, size, kernel, stride, padding ("same" is TensorFlow's), and whose layer it is
    (96, 64, 3, 2, "same", "tf_efficientnet_lite0 at 128 px"),
    (144, 32, 5, 2, "same", "tf_efficientnet_lite0 at 128 px"),
    (240, 16, 5, 1, "same", "tf_efficientnet_lite0 at 128 px"),
    (240, 16, 3, 2, "same", "tf_efficientnet_lite0 at 128 px"),
    (672, 8, 5, 1, "same", "tf_efficientnet_lite0 at 128 px"),
    (672, 8, 5, 2, "same", "tf_efficientnet_lite0 at 128 px"),
    (1152, 4, 5, 1, "same", "tf_efficientnet_lite0 at 128 px"),
    (72, 32, 3, 2, "", "mobilenetv3_small_100 at 128 px"),
    (96, 16, 5, 2, "", "mobilenetv3_small_100 at 128 px"),
    (96, 32, 7, 1, "", "convnext_tiny at 128 px"),
    (384, 8, 7, 1, "", "convnext_tiny at 128 px"),
]
NETWORKS: list[tuple[Any, ...]] = [  # name, pixels, images and, if they do not train, norms
    ("tf_efficientnet_lite0", 128, 32),
    ("tf_efficientnet_lite0", 224, 16),
    ("mobilenetv3_small_100", 128, 32),
    ("convnext_atto", 128, 32),
    ("tf_efficientnet_lite0", 128, 32, "frozen"),
    ("tf_efficientnet_lite0", 224, 16, "frozen"),
    ("mobilenetv3_small_100", 128, 32, "frozen"),
    ("resnet18", 128, 32, "frozen"),
]
VARIANTS = {  # (bf16, ours)
    "torch fp32": (False, False),
    "torch bf16": (True, False),
    "ours fp32": (False, True),
    "ours bf16": (True, True),
}


def contestants(train: Callable[[bool, bool], None]) -> dict[str, Callable[[], object]]:
    """The same step in the four ways of a row."""
    return {name: partial(train, *how) for name, how in VARIANTS.items()}


def layer(channels: int, size: int, kernel: int, stride: int, padding: str, network: str) -> dict[str, Any]:
    """Milliseconds per batch of 32, forward and backward."""
    conv = create_conv2d(channels, channels, kernel, stride=stride, padding=padding, depthwise=True)
    images = torch.randn(32, channels, size, size).to(memory_format=torch.channels_last)
    direction = torch.randn_like(conv(images))
    half = images.bfloat16(), direction.bfloat16()  # under autocast the layers around work in bf16, too

    def train(bf16: bool, ours: bool) -> None:
        entering, returning = half if bf16 else (images, direction)
        with fast_kernels() if ours else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = conv(entering.detach().requires_grad_())
            torch.autograd.backward(output, returning)

    seconds = medians(interleave(contestants(train), repeats=9))
    shape = {"channels": channels, "size": size, "kernel": kernel, "stride": stride, "padding": padding or "symmetric"}
    return {"layer": shape, "of": network, "ms": {name: round(1e3 * each, 2) for name, each in seconds.items()}}


def network(name: str, pixels: int, batch: int, norms: str = "train") -> dict[str, Any]:
    """Images per second of a training step: forward, backward, SGD."""
    model = timm.create_model(name, num_classes=10).to(memory_format=torch.channels_last).train()
    if norms == "frozen":
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval().requires_grad_(False)
    images = torch.randn(batch, 3, pixels, pixels).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    kernels = Kernels()
    kernels.folds.add(foldable(model, images[:1]))

    def train(bf16: bool, ours: bool) -> None:
        with kernels if ours else nullcontext():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(images), labels)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

    seconds = medians(interleave(contestants(train), repeats=7))
    speed = {contestant: round(batch / each, 1) for contestant, each in seconds.items()}
    best = max(speed["torch fp32"], speed["torch bf16"])
    gain = {"ours bf16 over the best of torch": round(speed["ours bf16"] / best, 2)}
    return {"network": name, "pixels": pixels, "batch": batch, "norms": norms, "images_per_second": speed, **gain}


def main() -> None:
    """Measure all rows and write them."""
    torch.manual_seed(0)
    ceiling = {str(dtype)[6:]: round(matmul_rate(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    rows: list[dict[str, Any]] = [{"matrix_product_gflops": ceiling}]
    for measure, cases in ((layer, LAYERS), (network, NETWORKS)):
        for case in cases:
            rows.append(measure(*case))
            print(rows[-1], flush=True)
    print(write("depthwise", rows, "python -m benchmarks.speed.depthwise"))


if __name__ == "__main__":
    main()
