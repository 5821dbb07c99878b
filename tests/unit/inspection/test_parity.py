"""The comparison of a file with PyTorch finds whatever differs, and names the photo."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.unit.inspection.striped import parts
from visionft import backbones
from visionft.errors import CheckpointError
from visionft.inspection import parity
from visionft.inspection.eyes import chosen
from visionft.inspection.graph import Graph
from visionft.inspection.inspector import Inspector
from visionft.inspection.panel import Panel
from visionft.log import Console
from visionft.precision import exact

SIZE = (40, 56)
Said = list[np.ndarray]  # score, p_value, reject, each, heat


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    torch.manual_seed(0)
    panel = Panel(backbones.load("test_resnet", "none", size=32).eval(), chosen("texture"))
    return Inspector.learn(panel, parts(20, 0, SIZE), 0.05, {"channels": 3, "white": 65535}, Console(quiet=True))


def compared(inspector: Inspector, change: Callable[[Said], Said], **limits: float) -> parity.Parity:
    """What is found of a file whose answers are the right ones, changed; photo e shows a defect."""
    graph, some = Graph(inspector, SIZE).eval(), parts(5, 1, SIZE)
    some[4][16:28, 24:40] = 20

    def run(batch: np.ndarray) -> Said:
        with torch.no_grad():
            return change([output.numpy() for output in graph(torch.from_numpy(batch))])

    limits = {"tolerance": 0.02, "shift": 1.0, **limits}
    with exact():
        return parity.compare(run, inspector.panel, inspector.promise.threshold, some, list("abcde"), batch=3, **limits)


def louder(said: Said) -> Said:
    return [said[0] + 0.3, *said[1:]]


def louder_together(said: Said) -> Said:
    return louder(said) if len(said[0]) > 1 else said


def lost(said: Said) -> Said:
    return [np.where(said[2], np.nan, said[0]), *said[1:]]


def colder(said: Said) -> Said:
    return [*said[:4], said[4] - 1]


def lenient(said: Said) -> Said:
    return [*said[:2], np.zeros_like(said[2]), *said[3:]]


def test_the_same_answers_are_the_same(inspector):
    found = compared(inspector, lambda said: said)
    assert found.apart < 1e-3 and found.shift < 1e-3 and found.photos == 5 and found.together == 3
    assert found.otherwise == 0 and abs(found.mean_shift) < 1e-3


@pytest.mark.parametrize(("change", "says"), [
    (louder, "judged alone: the score is"), (louder_together, "judged 3 together: the score is"),
    (lost, "e, judged alone: the score is nan"), (colder, "the hottest place is"),
    (lenient, "decides otherwise than PyTorch does, and is not kept: e"),
])  # fmt: skip
def test_what_differs_is_found_and_named(inspector, change, says):
    with pytest.raises(CheckpointError, match=says):
        compared(inspector, change)


def test_limits_are_those_that_were_asked_for(inspector):
    assert compared(inspector, louder, tolerance=0.5).mean_shift == pytest.approx(0.3, abs=1e-3)
    with pytest.raises(CheckpointError, match=r"against the arithmetic of this machine: .* at most shift=0.1"):
        compared(inspector, louder, tolerance=0.5, shift=0.1)


def test_times_are_milliseconds_for_a_photo(monkeypatch):
    shapes = []
    monkeypatch.setattr(parity, "RUNS", 5)
    found = parity.timed(lambda photo: shapes.append(photo.shape), parts(2, 0, SIZE))
    assert shapes == [(1, *SIZE, 3)] * 6 and found["runs"] == 5
    assert 0 <= found["p50_ms"] <= found["p99_ms"]
