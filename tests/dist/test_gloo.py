"""Two processes train what one would: the same losses, the same weights, one run folder.

The three processes (two that work together, one alone) run every case of `gloo_cases.py` once, beside each other.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.dist

SCRIPT = Path(__file__).with_name("gloo_cases.py")
spec = importlib.util.spec_from_file_location("gloo_cases", SCRIPT)
assert spec is not None and spec.loader is not None
gloo_cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gloo_cases)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The folder in which every process has left what it found."""
    folder = tmp_path_factory.mktemp("gloo")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alone = {"VISIONFT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    two = [{"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)} | {"RANK": r, "LOCAL_RANK": r}
           for r in "01"]  # fmt: skip
    command = [sys.executable, str(SCRIPT), str(folder)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, env={**os.environ, **alone, **e}, **pipes) for e in [{}, *two]]
    try:
        said = [process.communicate(timeout=150)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(said)
    return folder


def of(results: Path, rank: int, world: int) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """What a process wrote: numbers and tensors by case."""
    mine = results / f"rank{rank}-of-{world}"
    cases: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(mine.with_suffix(".safetensors")).items():
        case, key = name.split("|")
        cases.setdefault(case, {})[key] = tensor
    return json.loads(mine.with_suffix(".json").read_text()), cases


@pytest.mark.parametrize("case", gloo_cases.RUNS)
def test_two_processes_have_the_losses_of_one(results, case):
    (together, _), (alone, _) = of(results, 0, 2), of(results, 0, 1)
    assert len(alone[case]) == gloo_cases.STEPS
    for ours, theirs in zip(together[case], alone[case], strict=True):
        losses = {name: value for name, value in theirs.items() if name != "grad_norm"}
        assert {name: ours[name] for name in losses} == pytest.approx(losses, rel=1e-5, abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=5e-3)  # a ReLU may flip


@pytest.mark.parametrize("case", gloo_cases.RUNS)
def test_both_processes_end_with_the_weights_of_one(results, case):
    (_, first), (_, second), (_, alone) = of(results, 0, 2), of(results, 1, 2), of(results, 0, 1)
    for name, weight in first[case].items():
        assert torch.equal(weight, second[case][name]), name
        far = (weight - alone[case][name]).abs().max() if weight.numel() else 0.0
        assert far < 1e-4, f"{name} is off by {far:.1e}"


def test_memory_that_one_process_lacks_makes_the_parts_of_both_smaller(results):
    (first, weights), (second, others), (_, alone) = of(results, 0, 2), of(results, 1, 2), of(results, 0, 1)
    for said in (first, second):
        assert [row for row in said["tight"] if "loss" not in row] == [{"accumulate": 2.0}]
    for name, weight in weights["tight"].items():
        assert torch.equal(weight, others["tight"][name]), name
        torch.testing.assert_close(weight, alone["tight"][name], rtol=0, atol=1e-4, msg=name)


def test_processes_time_their_arithmetic_by_themselves_and_take_what_the_first_found(results):
    """Rounds end when times agree, which is sooner on one process than on another: none may wait for the other's."""
    (first, weights), (second, others), (_, alone) = of(results, 0, 2), of(results, 1, 2), of(results, 0, 1)
    assert [row["loss"] for row in first["raced"]] == [row["loss"] for row in second["raced"]]
    for name, weight in weights["raced"].items():
        assert torch.equal(weight, others["raced"][name]), name
        torch.testing.assert_close(weight, alone["raced"][name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.parametrize("case", gloo_cases.NORMS)
def test_a_batch_norm_over_two_processes_is_one_over_the_whole_batch(results, case):
    (_, first), (_, second), (_, alone) = of(results, 0, 2), of(results, 1, 2), of(results, 0, 1)
    for name, whole in alone[case].items():
        ours, theirs = first[case][name], second[case][name]
        if name in ("output", "input gradient"):
            ours = torch.cat([ours, theirs])
        elif name.startswith("gradient of"):
            ours = ours + theirs
        else:
            assert torch.equal(ours, theirs), name  # running statistics
        torch.testing.assert_close(ours, whole, rtol=1e-5, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}")


def test_two_processes_write_one_run_folder(results):
    """One row a step, and the metrics that one process measures."""
    runs = [results / f"run-of-{world}" for world in (2, 1)]
    together, alone = ([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs)
    assert [row["step"] for row in together] == [row["step"] for row in alone]
    for ours, theirs in zip(together, alone, strict=True):
        for name in {"loss", "effective_rank"} & theirs.keys():
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
    assert [json.loads((run / "run.json").read_text())["steps"] for run in runs] == [4, 4]
    assert {path.name for path in runs[0].iterdir()} == {path.name for path in runs[1].iterdir()}


def test_both_processes_hold_the_run_that_the_first_has_sealed(results):
    (first, weights), (second, others), (alone, _) = of(results, 0, 2), of(results, 1, 2), of(results, 0, 1)
    assert first["whole run"] == second["whole run"]
    assert first["whole run"]["metrics"].keys() == alone["whole run"]["metrics"].keys()
    assert "probe_accuracy" in first["whole run"]["metrics"]
    for name, weight in weights["whole run"].items():
        assert torch.equal(weight, others["whole run"][name]), name


def test_the_best_evaluation_is_kept_by_both_processes_with_norms_measured_over_both(results):
    (first, weights), (second, others), (one, alone) = of(results, 0, 2), of(results, 1, 2), of(results, 0, 1)
    assert first["recalibrated"] == second["recalibrated"] == one["recalibrated"]
    assert first["recalibrated"][0]["loss"] == 1.0
    for name, weight in weights["recalibrated"].items():
        assert torch.equal(weight, others["recalibrated"][name]), name
        measured = 2e-2 if "running" in name else 1e-4  # in the arithmetic of inference, which may be bf16
        torch.testing.assert_close(weight, alone["recalibrated"][name], rtol=measured, atol=measured, msg=name)


def test_nothing_that_two_processes_call_is_deprecated(results):
    assert of(results, 0, 2)[0]["complaints"] == []
