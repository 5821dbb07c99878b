"""Inference is in the fastest arithmetic of the processor, unless answers must be repeated elsewhere."""

from __future__ import annotations

import torch

from visionft.precision import exact, inference, native_bf16

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
