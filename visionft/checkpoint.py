"""A checkpoint is one folder per step, complete or absent: written beside, flushed, renamed; then `last` moves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .atomic import flush, replace, write_text
from .errors import CheckpointError

State = dict[str, Tensor]


@dataclass
class Checkpoint:
    """All that a run needs to go on as if it had never stopped."""

    step: int
    model: State
    optimizer: State
    extra: dict[str, State] = field(default_factory=dict)  # e.g. averaged or best weights
    facts: dict[str, Any] = field(default_factory=dict)  # JSON: elapsed time, best score, chosen precision


def save(run: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under run/resume and drop the ones before it; killed at any moment, one whole one is left."""
    folder, name = run / "resume", _name(checkpoint.step)
    folder.mkdir(parents=True, exist_ok=True)
    clean(run)
    if (folder / name).exists():
        return  # this step is the one that `last` points to: it is on disk already
    beside = folder / f".new-{os.getpid()}"
    beside.mkdir()
    states = {"model": checkpoint.model, "optimizer": checkpoint.optimizer, **checkpoint.extra}
    for part, state in states.items():
        save_file(savable(state), beside / f"{part}.safetensors")
    text = {"step": checkpoint.step, "states": sorted(states), "facts": checkpoint.facts}
    (beside / "checkpoint.json").write_text(json.dumps(text))
    for file in beside.iterdir():
        flush(file)
    beside.replace(folder / name)
    flush(folder)
    write_text(folder / "last", name)
    clean(run)


def resume(run: Path) -> Checkpoint | None:
    """Read the last complete checkpoint, or None when there is none."""
    step = last_step(run)
    if not step:
        return None
    folder = run / "resume" / _name(step)
    try:
        text = json.loads((folder / "checkpoint.json").read_text())
        states = {name: load_file(folder / f"{name}.safetensors") for name in text["states"]}
    except Exception as error:
        raise CheckpointError(f"{folder} is damaged ({error}); remove {run / 'resume'} to start again") from error
    return Checkpoint(text["step"], states.pop("model"), states.pop("optimizer"), states, text["facts"])


def clean(run: Path) -> None:
    """Remove whatever a kill left half-written, and the checkpoints that `last` no longer points to."""
    for beside in (*run.glob(".*.new"), *run.glob(".tmp??????")):  # ours, and safetensors' own
        beside.unlink(missing_ok=True)
    folder = run / "resume"
    kept = {"last", _name(last_step(run))}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in kept:
            path.unlink(missing_ok=True)


def optimizer_state(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> State:
    """An optimizer's tensors by parameter name: `weight.exp_avg` survives any change in the order of groups."""
    out = {}
    for p, slots in optimizer.state.items():
        for slot, value in slots.items():
            if value is not None:
                out[f"{names[id(p)]}|{slot}"] = torch.as_tensor(value)
    return out


def load_optimizer(optimizer: torch.optim.Optimizer, state: State, names: Mapping[int, str]) -> None:
    """Put named tensors back into an optimizer whose parameters carry these names."""
    by_name = {names[id(p)]: p for group in optimizer.param_groups for p in group["params"]}
    for key, value in state.items():
        name, slot = key.rsplit("|", 1)
        if name not in by_name:
            raise CheckpointError(f"the checkpoint trained {name}, this recipe does not; use another out= folder")
        p = by_name[name]
        same = value.shape == p.shape  # laid out as the weight is: fused optimizers walk through memory in its order
        optimizer.state[p][slot] = torch.empty_like(p).copy_(value) if same and slot != "step" else value


def finish(run: Path, model: nn.Module, info: Mapping[str, Any]) -> None:
    """Write what is used afterwards: model, backbone with plain timm keys, and run.json last, as the seal."""
    run.mkdir(parents=True, exist_ok=True)
    replace(run / "model.safetensors", lambda f: save_file(savable(model.state_dict()), f))
    backbone: Any = getattr(model, "backbone", None)
    if backbone is not None:
        replace(run / "backbone.safetensors", lambda f: save_file(savable(backbone.net.state_dict()), f))
    seal(run, info)
    shutil.rmtree(run / "resume", ignore_errors=True)  # nothing is left to resume


def seal(run: Path, info: Mapping[str, Any]) -> None:
    """Write run.json, which says that everything else is there."""
    write_text(run / "run.json", json.dumps(info, indent=2))


def savable(state: Mapping[str, Tensor]) -> State:
    """Copies that safetensors takes: on the CPU, contiguous, none sharing memory with another."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def last_step(run: Path) -> int:
    """The step of the last complete checkpoint, 0 when there is none."""
    pointer = run / "resume" / "last"
    if not pointer.is_file():
        return 0
    said = pointer.read_text(encoding="utf-8", errors="replace").strip()
    if not said.removeprefix("step-").isdigit():
        raise CheckpointError(f"{pointer} is damaged; remove {pointer.parent} to start again")
    return int(said.removeprefix("step-"))


def _name(step: int) -> str:
    return f"step-{step:08d}"
