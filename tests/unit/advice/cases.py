"""Ordinary facts, and ways of making them extraordinary."""

from __future__ import annotations

import dataclasses
from typing import Any

from visionft.advice.facts import AtSize, Data, Facts, Machine, Measured

PLAIN = Facts(
    data=Data(source="parts", classes={"good": 600, "bad": 400}, gray=0.0, sizes=((128, 128),) * 3),
    measured=Measured(
        images=750, aside=250, fewest=300, chance=(0.6, 0.57, 0.63), knn=(0.8, 0.77, 0.83), probe=(0.85, 0.82, 0.88),
        curve=((140, 0.8, 0.77, 0.83), (281, 0.83, 0.8, 0.86), (562, 0.85, 0.82, 0.88)), doubling=(0.02, -0.01, 0.05),
        recall={"good": 0.9, "bad": 0.78}, balanced=0.84, rebalancing=(0.03, 0.01, 0.05), rebalanced_accuracy=0.83,
        sizes=(AtSize(size=128, probe=(0.85, 0.82, 0.88), gain=(0.0, 0.0, 0.0), ms=4.0),), shift=0.2,
    ),
    machine=Machine(cores=2, memory=8e9),
    backbone="tf_efficientnet_lite0",
)  # fmt: skip


def with_data(**changes: Any) -> Facts:
    return dataclasses.replace(PLAIN, data=dataclasses.replace(PLAIN.data, **changes))


def with_measured(facts: Facts = PLAIN, **changes: Any) -> Facts:
    return dataclasses.replace(facts, measured=dataclasses.replace(facts.measured, **changes))
