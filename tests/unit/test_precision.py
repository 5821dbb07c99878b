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


@pytest.mark.parametrize(
    ("few", "many", "bf16", "shown"),
    [(2.0, 1.0, True, {4}), (1.2, 1.5, True, {4, 16}), (1.2, 1.0, False, {4, 16}), (0.3, 0.8, False, {4, 16})],
)
def test_few_images_settle_it_where_bf16_is_clearly_faster_and_more_do_elsewhere(monkeypatch, few, many, bf16, shown):
    """`few` and `many`: how many times as fast bf16 is, with 4 images and with 16."""
    seen = list[int]()

    def sample(count: int) -> dict[str, torch.Tensor]:
        seen.append(count)
        return {"image": torch.ones(count)}

    monkeypatch.setattr(precision, "raced", lambda steps: {"fp32": {4: few, 16: many}[seen[-1]], "bf16": 1.0})
    found = precision.Precision.choose("auto", torch.nn.Identity(), sample, CPU)
    assert (found.bf16, set(seen)) == (bf16, shown)
    assert found.measured["fp32"] == (few if shown == {4} else many)
