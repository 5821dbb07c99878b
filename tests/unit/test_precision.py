"""Inference is in the fastest arithmetic of the processor, unless answers must be repeated elsewhere."""

from __future__ import annotations

import pytest
import torch

from visionft import precision
from visionft.precision import ROUNDS, exact, inference, native_bf16, raced

CPU = torch.device("cpu")


def product() -> torch.dtype:
    with inference(CPU):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_exact_answers_are_in_float32_and_others_as_before():
    fast = torch.bfloat16 if native_bf16(CPU) else torch.float32
    assert product() == fast
    with exact():
        assert product() == torch.float32
        with exact():
            pass
        assert product() == torch.float32
    assert product() == fast


class Machine:
    """A clock, and two steps that take as long as a script says, round by round; the last entry goes on for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **seconds: list[float]) -> None:
        self.now, self.seconds, self.calls = 0.0, seconds, ""
        monkeypatch.setattr(precision.time, "perf_counter", lambda: self.now)

    def step(self, name: str) -> None:
        done = self.calls.count(name)
        self.now += self.seconds[name][min(done, len(self.seconds[name]) - 1)]
        self.calls += name

    def race(self) -> dict[str, float]:
        return raced({name: lambda name=name: self.step(name) for name in self.seconds})


def test_steps_take_turns_and_two_rounds_suffice_on_an_idle_machine(monkeypatch):
    machine = Machine(monkeypatch, a=[9.0, 0.4], b=[5.0, 0.3])
    assert machine.race() == pytest.approx({"a": 0.4, "b": 0.3})
    assert machine.calls == "ab" * 3


def test_a_neighbour_that_is_busy_for_a_while_decides_nothing(monkeypatch):
    machine = Machine(monkeypatch, a=[9.0, 0.4], b=[5.0, 0.6, 0.8, 0.7, 0.3])
    assert machine.race() == pytest.approx({"a": 0.4, "b": 0.3})
    assert machine.calls == "ab" * 6


def test_a_race_that_never_settles_ends(monkeypatch):
    machine = Machine(monkeypatch, a=[1.5**at for at in range(40, 0, -1)])
    machine.race()
    assert len(machine.calls) == 1 + ROUNDS
