"""Which arithmetic is fastest here: measured on the real objective and real images, not assumed."""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from visionft import parallel

_exact: ContextVar[bool] = ContextVar("exact", default=False)
IMAGES = (4, 16)  # of the timed batches: few settle it where one arithmetic is clearly faster, and cost a quarter
NAMES = ("fp32", "bf16")
CLEAR = 1.3  # times as fast; bf16 gains with the batch, up to half as much again from 4 images to 16
ROUNDS = 6  # at most, on a machine that others keep busy


@dataclass
class Precision:
    """bf16 autocast or plain fp32, and what measuring said (seconds of forward and backward)."""

    bf16: bool = False
    measured: dict[str, float] = field(default_factory=dict)

    @classmethod
    def choose(
        cls, wish: str, objective: nn.Module, sample: Callable[[int], Mapping[str, Tensor]], device: torch.device
    ) -> Precision:
        """Take what was asked for; for `auto`, time steps of each, in turn, on a copy of the objective.

        bf16 has to win by a tenth: on equal terms fp32 is the safer choice.
        """
        if wish != "auto" or device.type == "cuda":
            return cls(bf16=wish != "fp32")
        twin = copy.deepcopy(objective).to(memory_format=torch.channels_last)
        seconds: dict[str, float] = {}
        for count in IMAGES:
            batch = sample(count)
            steps = {name: functools.partial(_step, twin, batch, cls(name == "bf16"), device) for name in NAMES}
            with parallel.alone():  # one process may need more rounds than another
                seconds = raced(steps)
            if seconds["fp32"] > CLEAR * seconds["bf16"]:
                break
        return cls(seconds["bf16"] < 0.9 * seconds["fp32"], seconds)

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        """The context a forward pass runs in."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def facts(self) -> dict[str, Any]:
        """For the checkpoint: a resumed run must not measure again and decide otherwise."""
        return asdict(self)

    def __str__(self) -> str:
        name = "bf16 autocast" if self.bf16 else "fp32"
        if not self.measured:
            return name
        return f"{name} (measured: bf16 {self.measured['fp32'] / self.measured['bf16']:.2f}x as fast as fp32)"


def _step(objective: nn.Module, batch: Mapping[str, Tensor], precision: Precision, device: torch.device) -> None:
    """Forward and backward."""
    with precision.autocast(device):
        loss = objective(batch)["loss"]
    loss.backward()


def raced(steps: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds that each step takes where no neighbour disturbs it: the fastest of rounds in which they take turns.

    The first round, which compiles kernels, is not counted. Rounds go on until the two fastest of each step agree to a
    tenth, which two rounds do on an idle machine, and end after ROUNDS.
    """
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for done in range(1 + ROUNDS):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if done:
                spent[name].append(time.perf_counter() - began)
        if done > 1 and all(sorted(own)[1] < 1.1 * min(own) for own in spent.values()):
            break
    return {name: min(own) for name, own in spent.items()}


def inference(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context of forward passes that nobody differentiates: bf16 where the processor multiplies it natively."""
    return torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device) and not exactly())


def exactly() -> bool:
    """Whether this is in a block of `exact`."""
    return _exact.get()


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Let `inference` be in fp32 for a block, as where bf16 is not native: for answers that others must repeat."""
    before = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(before)


def native_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16, AMX, NEON), instead of imitating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if hasattr(torch.cpu, "get_capabilities"):
        found: Mapping[str, Any] = torch.cpu.get_capabilities()
        return any(found.get(flag) for flag in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))
    return bool(torch.cpu._is_avx512_bf16_supported())  # torch 2.10 and 2.11
