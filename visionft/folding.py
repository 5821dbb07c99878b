"""Batch norms that do not move, folded into the convolutions before them: one pass over memory less for each.

A norm in eval mode is y = s x + t per channel, and a convolution is linear: s (W * x + b) + t = (s W) * x + (s b + t).
The scaled filters are made anew at every call, from what weights and statistics are by then, and gradients reach W
through them; so nothing in the model changes, and a state that is loaded meanwhile counts at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Norm = nn.modules.batchnorm._BatchNorm
Shape = tuple[tuple[nn.Module, bool, int], ...]
TRACED_AT = 64  # pixels; where a convolution's output goes does not depend on it
_FOUND: WeakKeyDictionary[nn.Module, tuple[Shape, dict[nn.Parameter, Norm]]] = WeakKeyDictionary()


@contextmanager
def idle(network: nn.Module) -> Iterator[None]:
    """Eval mode for a block, and then every module in the mode that it had."""
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def foldable(network: nn.Module, image: Tensor) -> dict[nn.Parameter, Norm]:
    """Find, by passing `image` (1 C H W) through `network`, the filters whose output goes to one idle norm only.

    Remembered as long as the network has the same modules, in the same modes and with as many hooks.
    """
    shape = tuple((module, module.training, _hooks(module)) for module in network.modules() if module is not network)
    if (known := _FOUND.get(network)) and known[0] == shape:
        return known[1]
    found, alone = _found(network, image)
    if alone:
        _FOUND[network] = shape, found
    return found


def foldable_in(backbone: Any) -> dict[nn.Parameter, Norm]:
    """What is `foldable` in a backbone; nothing is passed through one without an idle norm."""
    if not any(isinstance(module, Norm) and not module.training for module in backbone.modules()):
        return {}
    side, mean = backbone.side(backbone.size or TRACED_AT), backbone.mean
    return foldable(backbone.net, torch.zeros(1, backbone.channels, side, side, device=mean.device, dtype=mean.dtype))


def _hooks(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


def _found(network: nn.Module, image: Tensor) -> tuple[dict[nn.Parameter, Norm], bool]:
    """What can be folded, and whether no context around this one has folded anything already."""
    norms = [m for m in network.modules() if isinstance(m, Norm) and not m.training and m.track_running_stats]
    still = {norm.running_mean: norm for norm in norms}
    with idle(network), torch.no_grad(), _Recorder() as recorder:
        network(image)
    ways = recorder.goes.values()
    found = {
        weight: still[next(iter(goals))]
        for weight, goals in recorder.goes.items()
        if len(goals) == 1 and goals <= still.keys() and sum(goals <= others for others in ways) == 1
    }
    return found, recorder.alone


def scale_and_shift(norm: Norm) -> tuple[Tensor, Tensor]:
    """s and t of a norm in eval mode, C each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift


def folded(weight: Tensor, bias: Tensor | None, norm: Norm) -> tuple[Tensor, Tensor]:
    """Filters and bias of a convolution with the norm behind it."""
    scale, shift = scale_and_shift(norm)
    return weight * scale[:, None, None, None], shift if bias is None else bias * scale + shift


class Folds:
    """Which convolutions take the norm behind them along; asked at every call of either, by the identity of tensors.

    With `still`, nothing learns or is loaded meanwhile: scaled filters are made once, and not at every call.
    """

    def __init__(self, *, still: bool = False) -> None:
        self.still = still
        self.made: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        self.norms: dict[nn.Parameter, Norm] = {}  # by the weight of the convolution
        self.done: set[Tensor | None] = set()  # the running means of these norms

    def add(self, pairs: Mapping[nn.Parameter, Norm]) -> None:
        """Fold these from now on."""
        self.norms |= pairs
        self.done |= {norm.running_mean for norm in pairs.values()}

    def scaled(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a convolution, with its norm's scale and shift in its filters and bias."""
        if len(arguments) < 2 or (norm := self.norms.get(arguments[1])) is None:
            return arguments
        image, weight, *rest = arguments
        if (made := self.made.get(weight)) is None:
            made = folded(weight, rest[0] if rest else None, norm)
            if self.still and not torch.is_grad_enabled():
                self.made[weight] = made
        return (image, *made, *rest[1:])

    def holds(self, arguments: tuple[Any, ...], words: Mapping[str, Any]) -> bool:
        """Whether this call of a norm was done by the convolution before it."""
        if len(arguments) < 2 or arguments[1] not in self.done:
            return False
        if words.get("training"):
            raise RuntimeError("a folded batch norm went back to training; fold after train() and eval()")
        return True


class _Recorder(TorchFunctionMode):
    """Notes where the output of every convolution goes."""

    def __init__(self) -> None:
        super().__init__()
        self.goes: dict[nn.Parameter, set[Tensor | None]] = defaultdict(set)  # running means; None is all else
        self.made: dict[Tensor, nn.Parameter] = {}  # which filters made a tensor
        self.alone = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.batch_norm and args[0] in self.made:
            self.goes[self.made[args[0]]].add(args[1])
            if result is args[0]:  # folded already, by a context around this one
                del self.made[result]
                self.alone = False
        elif isinstance(result, Tensor):
            for tensor in _tensors(args, kwargs or {}):
                if tensor in self.made:
                    self.goes[self.made[tensor]].add(None)
            if func is F.conv2d and isinstance(args[1], nn.Parameter):
                self.made[result] = args[1]
        return result


def _tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for value in (*args, *kwargs.values()):
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, Tensor):
                yield one
