"""Augmentation of whole batches by matrix products: the pictures of albumentations, drawn on any device.

albumentations draws what is to happen to every image, from the same stream of random numbers, but nothing happens: it
is written down. Crop, resize, mirror and blur are linear and separable, Y = A X B^T with one A and B per image; a step
of colour is one matrix and one bias per image. So the pictures are those that albumentations would have made, but for
rounding once instead of after each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .policies import A  # type: ignore[attr-defined]

TAPS = 15  # of the widest blur: albumentations' kernel of sigma 2
NOTHING, BRIGHTNESS, CONTRAST, SATURATION, HUE, LIGHT = range(6)
LUMA = (0.299, 0.587, 0.114)


@dataclass
class Drawn:
    """What is to happen to one image."""

    crop: np.ndarray  # h w C uint8
    side: int = 0
    flip: bool = False
    blur: np.ndarray | None = None  # odd number of taps
    colours: list[tuple[int, float, float]] = field(default_factory=list)
    solarize: float = math.inf  # from this share of white on, values are turned over


def _cropped(d: Drawn, t: Any, p: Any) -> Drawn:
    left, top, right, bottom = p["crop_coords"]
    return replace(d, crop=d.crop[top:bottom, left:right], side=t.size[0])


def _jittered(d: Drawn, t: Any, p: Any) -> Drawn:
    channels = d.crop.shape[2]
    if channels not in (1, 3):
        raise TypeError(f"colour jitter is for one channel or three, not {channels}")
    factors = (p["brightness"], p["contrast"], p["saturation"], p["hue"])
    steps = [(BRIGHTNESS + i, factors[i], 0.0) for i in p["order"]]
    return replace(d, colours=[*d.colours, *(s for s in steps if channels == 3 or s[0] in (BRIGHTNESS, CONTRAST))])


STEPS: dict[type, Callable[[Drawn, Any, Any], Drawn]] = {
    A.RandomResizedCrop: _cropped,
    A.Resize: lambda d, t, p: replace(d, side=t.height),
    A.HorizontalFlip: lambda d, t, p: replace(d, flip=not d.flip),
    A.GaussianBlur: lambda d, t, p: replace(d, blur=p["kernel"]),
    A.ColorJitter: _jittered,
    A.ToGray: lambda d, t, p: replace(d, colours=[*d.colours, (SATURATION, 0.0, 0.0)]),
    A.RandomBrightnessContrast: lambda d, t, p: replace(d, colours=[*d.colours, (LIGHT, p["alpha"], p["beta"] / 255)]),
    A.Solarize: lambda d, t, p: replace(d, solarize=p["threshold"]),
}
SIZED = (A.RandomResizedCrop, A.Resize)
ORDER = {**dict.fromkeys(SIZED, 0), A.GaussianBlur: 2, A.Solarize: 3}  # between them colours; mirrors are anywhere
CAN: dict[type, Callable[[Any], bool]] = {  # with which options
    **dict.fromkeys(SIZED, lambda t: t.interpolation == 1 and t.area_for_downscale == "image"),
    A.GaussianBlur: lambda t: int(t.sigma_limit[1] * 3.5) * 2 + 1 <= TAPS and max(t.blur_limit) <= TAPS,
    A.ToGray: lambda t: t.method == "weighted_average" and t.num_output_channels == 3,
    A.RandomBrightnessContrast: lambda t: t.brightness_by_max,
}


def possible(policy: A.Compose) -> bool:
    """Whether a policy is made of steps that are known here, in an order that matrix products can follow."""
    known = all(type(t) in STEPS and CAN.get(type(t), lambda t: True)(t) for t in policy.transforms)
    kinds = [type(t) for t in policy.transforms if not isinstance(t, A.HorizontalFlip)]
    ranks = [ORDER.get(kind, 1) for kind in kinds]
    once = all(ranks.count(i) < 2 for i in (0, 2, 3))
    always = policy.p == 1 and all(t.p == 1 for t in policy.transforms if isinstance(t, SIZED))
    return known and once and always and ranks[:1] == [0] and ranks == sorted(ranks)


class Recorder:
    """A policy that writes down what it would do."""

    def __init__(self, policy: A.Compose) -> None:
        self.policy, self.drawn = policy, Drawn(np.zeros((1, 1, 3), np.uint8))
        for transform in policy.transforms:
            transform.apply_with_params = partial(self._note, transform)

    def __call__(self, image: np.ndarray) -> Drawn:
        """H W C -> what happens to it, drawn from the policy's stream."""
        self.drawn = Drawn(image)
        self.policy(image=image)
        return self.drawn

    def _note(self, transform: Any, params: Any, **data: Any) -> Any:
        self.drawn = STEPS[type(transform)](self.drawn, transform, params)
        return data


@dataclass
class Plans:
    """What is to happen to N images; `to(device)` makes it happen there."""

    shape: tuple[int, ...]  # of the batch: N, or B V
    side: int
    pixels: Tensor  # N C H W uint8, each image in its upper left corner
    sizes: Tensor  # N 2, height and width of each
    flip: Tensor  # N bool
    blur: Tensor | None  # N TAPS, where any image is blurred
    colours: Tensor  # N S 3: which step, its factor, its bias, as often as the longest needs
    solarize: Tensor  # N

    @classmethod
    def of(cls, drawn: Sequence[Drawn], shape: tuple[int, ...]) -> Plans:
        """Put drawings together, smaller crops padded with black that nothing reads."""
        sizes = np.array([d.crop.shape[:2] for d in drawn])
        pixels = np.zeros((len(drawn), *sizes.max(0), drawn[0].crop.shape[2]), np.uint8)
        blur, steps = np.zeros((len(drawn), TAPS), np.float32), max(len(d.colours) for d in drawn)
        colours = np.zeros((len(drawn), steps, 3), np.float32)
        for i, d in enumerate(drawn):
            pixels[i, : d.crop.shape[0], : d.crop.shape[1]] = d.crop
            taps = np.ones(1) if d.blur is None else d.blur
            blur[i, (TAPS - len(taps)) // 2 : (TAPS + len(taps)) // 2] = taps
            colours[i, : len(d.colours)] = np.array(d.colours).reshape(-1, 3)
        flip, solarize = (np.array([getattr(d, name) for d in drawn]) for name in ("flip", "solarize"))
        kernels = torch.from_numpy(blur) if any(d.blur is not None for d in drawn) else None
        return cls(
            shape, drawn[0].side, torch.from_numpy(pixels).movedim(-1, 1), torch.from_numpy(sizes),
            torch.from_numpy(flip), kernels, torch.from_numpy(colours), torch.from_numpy(solarize.astype(np.float32)),
        )  # fmt: skip

    def pin_memory(self) -> Plans:
        """For a loader that feeds a GPU."""
        pinned: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in self._tensors().items()}
        return replace(self, **pinned)

    def to(self, device: torch.device, non_blocking: bool = False) -> Tensor:
        """Draw the pictures on this device: uint8 N C side side, or B V C side side, channels last."""
        moved: dict[str, Any] = {k: v.to(device, non_blocking=non_blocking) for k, v in self._tensors().items()}
        with torch.autocast(device.type, enabled=False):
            return replace(self, **moved).draw()

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}

    def draw(self) -> Tensor:
        """The pictures, where the plans are."""
        shrinks, longest = self.sizes > self.side, self.pixels.shape[2:]
        mixed = shrinks.any(1) & (self.sizes < self.side).any(1)
        rows, columns = (resampling(self.sizes[:, i], self.side, longest[i], mixed) for i in (0, 1))  # N S H, N S W
        columns = torch.where(self.flip[:, None, None], columns.flip(1), columns)
        x = rows[:, None] @ self.pixels.float() @ columns[:, None].mT / 255  # N C S S
        for step in self.colours.unbind(1):
            x = coloured(x, *step.unbind(1))
        if self.blur is not None:
            smooth = smoothing(self.blur, self.side)[:, None]  # N 1 S S
            x = smooth @ x @ smooth.mT
        x = torch.where(x >= self.solarize.view(-1, 1, 1, 1), 1 - x, x)
        made = (x * 255).round_().to(torch.uint8).contiguous(memory_format=torch.channels_last)
        views: Tensor = made.unflatten(0, self.shape)
        return views


def resampling(lengths: Tensor, out: int, longest: int, mixed: Tensor) -> Tensor:
    """N -> N out longest: how much of every pixel of a row goes into every pixel of a row of `out`.

    As OpenCV does: smaller rows average the pixels they cover (INTER_AREA), larger ones run straight from pixel to
    pixel (INTER_LINEAR), and of images that shrink one way and grow the other (`mixed`) both ways take two pixels.
    """
    n, i = lengths.float()[:, None, None], torch.arange(out, device=lengths.device)[:, None]
    at = torch.arange(longest, device=lengths.device)
    wide = (n / out).clamp(min=1)
    centre = ((i + 0.5) * n / out).clamp(wide / 2, n - wide / 2)
    weight = ((wide + 1) / 2 - (at + 0.5 - centre).abs()).clamp(0, 1) * (at < n)
    larger = out / n.double()  # to the last digit as OpenCV does it, which decides where pixels meet
    first = (i * (1 / larger)).floor()
    share = ((i + 1) - (first + 1) * larger).clamp(min=0).frac()
    pair = (at == first) * (1 - share) + (at == (first + 1).clamp(max=n - 1)) * share
    return torch.where(mixed[:, None, None], pair.float(), weight / weight.sum(2, keepdim=True))


def smoothing(kernels: Tensor, side: int) -> Tensor:
    """N taps -> N side side: a blur as a matrix, mirrored at the border without repeating it (OpenCV's default)."""
    reach = kernels.shape[1] // 2
    i = torch.arange(side, device=kernels.device)
    seen = i[:, None] + torch.arange(-reach, reach + 1, device=kernels.device)  # S taps
    period = max(1, 2 * (side - 1))
    seen = seen.remainder(period)
    seen = torch.minimum(seen, period - seen).clamp(max=side - 1)
    return torch.einsum("nt,stj->nsj", kernels, F.one_hot(seen, side).to(kernels))


def coloured(x: Tensor, kind: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """N C H W between 0 and 1 -> the same after one step per image: a matrix and a bias, or a turn of the hue."""
    channels = x.shape[1]
    luma = x.new_tensor(LUMA if channels == 3 else [1 / channels] * channels)
    f, eye = factor[:, None, None], torch.eye(channels, device=x.device)
    mixes = (kind == SATURATION)[:, None, None]
    keeps = ((kind == NOTHING) | (kind == HUE))[:, None, None]
    matrix = torch.where(keeps, eye, f * eye + mixes * (1 - f) * luma)  # N C C, each channel pulled to the luma
    level = x.mean((2, 3)) @ luma  # of the picture so far
    shift = torch.where(kind == CONTRAST, (1 - factor) * level, torch.where(kind == LIGHT, offset, 0.0))
    made = torch.baddbmm(shift[:, None, None].expand(-1, channels, 1), matrix, x.flatten(2)).clamp_(0, 1).view(x.shape)
    turned = (kind == HUE).nonzero()[:, 0]
    if len(turned):
        made[turned] = hued(made[turned], factor[turned])
    return made


def hued(x: Tensor, shift: Tensor) -> Tensor:
    """N 3 H W -> hues moved by `shift`, a share of the circle; saturation and value stay (HSV)."""
    r, g, b = x.unbind(1)
    value = x.amax(1)
    chroma = value - x.amin(1)
    safe = chroma.clamp(min=1e-12)
    hue = torch.where(value == r, (g - b) / safe, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    hue = hue + 6 * shift[:, None, None]
    sectors = [(hue + k).remainder(6) for k in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in sectors], 1)
