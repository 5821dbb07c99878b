"""What makes a CPU fast: slow kernels replaced by faster sums of others, idle norms folded, memory kept."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from . import depthwise, smallmaps
from .attention import attention
from .convolution import redirected
from .folding import Folds, foldable_in

FASTER: dict[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: redirected(depthwise.ways, smallmaps.ways),
    F.scaled_dot_product_attention: attention,
}


@contextmanager
def fast_kernels() -> Iterator[Kernels]:
    """Take the faster way through depthwise convolutions, those of small maps and short attention, trained on a CPU.

    Enter it around forward and backward. Nothing in a model changes: calls on the CPU in a block that may record
    gradients, outside tracing and compilation, are redirected where a faster way is known. What comes out of depthwise
    convolutions stays bit-identical; all else are the same sums in another order. `fold` adds what only a network's
    owner can promise.
    """
    with Kernels() as kernels:
        yield kernels


def keep_memory() -> bool:
    """Let this process keep freed memory for its next step instead of handing it back; says whether that is possible.

    glibc maps every tensor over 32 MB anew and unmaps it when freed, so that each step faults in hundreds of thousands
    of cleared pages. The peak hardly grows, but memory once used is not returned before the process ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # the numbers of malloc.h
    never, nothing, ahead = -1, 0, 64 << 20
    return all([mallopt(trim_threshold, never), mallopt(mmap_max, nothing), mallopt(top_pad, ahead)])


class Kernels(TorchFunctionMode):
    """Where calls are redirected."""

    def __init__(self) -> None:
        super().__init__()
        self.folds = Folds()

    def fold(self, backbone: Any, *, still: bool = False) -> int:
        """Spare the batch norms of a backbone that are in eval mode now, until the next call; returns how many.

        With `still`, its owner promises too that no weight and no statistic changes before that.
        """
        self.folds = Folds(still=still)
        self.folds.add(foldable_in(backbone))
        return len(self.folds.norms)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.folds.norms and func in (F.conv2d, F.batch_norm) and not _traced():
            if func is F.batch_norm and self.folds.holds(args, kwargs or {}):
                return args[0]
            args = self.folds.scaled(args) if func is F.conv2d else args
        if func in FASTER and torch.is_grad_enabled() and not _traced():
            func = FASTER[func]
        return func(*args, **(kwargs or {}))


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
