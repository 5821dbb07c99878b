"""A checkpoint is complete or absent, whatever moment the power fails at; what it holds comes back bit for bit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from visionft import checkpoint, optim, tuning
from visionft.checkpoint import Checkpoint, finish, last_step, load_optimizer, optimizer_state, resume, save
from visionft.errors import CheckpointError
from visionft.recipe import Optim, Recipe


class Crash(BaseException):
    """The power fails: nothing catches this."""


def at(step: int) -> Checkpoint:
    return Checkpoint(
        step,
        model={"w": torch.full((3, 2), float(step)), "n": torch.tensor(step)},
        optimizer={"w|exp_avg": torch.full((3, 2), step / 10)},
        extra={"best": {"w": torch.full((2,), -float(step))}},
        facts={"elapsed": step * 1.5, "best": {"step": step, "metrics": {"a": 0.1 + step}}},
    )


def same(a: Checkpoint, b: Checkpoint) -> bool:
    def tensors(c: Checkpoint) -> dict:
        parts = {"model": c.model, "optimizer": c.optimizer, **c.extra}
        return {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}

    mine, theirs = tensors(a), tensors(b)
    return (
        (a.step, a.facts) == (b.step, b.facts)
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[k], theirs[k]) and mine[k].dtype == theirs[k].dtype for k in mine)
    )


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path, at(3))
    assert same(resume(tmp_path), at(3))
    assert last_step(tmp_path) == 3


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    assert resume(tmp_path) is None
    assert resume(tmp_path / "nowhere") is None
    assert last_step(tmp_path) == 0


def test_the_last_one_counts_and_older_ones_leave(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, at(step))
    assert same(resume(tmp_path), at(10))
    assert sorted(p.name for p in (tmp_path / "resume").iterdir()) == ["last", "step-00000010"]


def test_saving_a_step_again_changes_nothing(tmp_path):
    save(tmp_path, at(4))
    save(tmp_path, at(4))
    assert same(resume(tmp_path), at(4))


WRITES = (
    (os, "replace"),
    (os, "rename"),
    (os, "fsync"),
    (os, "open"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (checkpoint, "save_file"),
    (shutil, "rmtree"),
)


class Power:
    """Fails at the nth write, before it or when it is half done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int, *, half: bool) -> None:
        self.count, self.fails_at, self.half = 0, fails_at, half
        for owner, name in WRITES:
            monkeypatch.setattr(owner, name, self.guarded(name, getattr(owner, name)))

    def guarded(self, name: str, write: Callable) -> Callable:
        def call(*args, **kwargs):
            self.count += 1
            if self.count != self.fails_at:
                return write(*args, **kwargs)
            if self.half:
                self.leave_half(name, write, args, kwargs)
            raise Crash

        return call

    def leave_half(self, name: str, write: Callable, args: tuple, kwargs: dict) -> None:
        """A rename is whole or not at all; a file or a removal may be left anywhere between."""
        if name in ("save_file", "write_text"):
            write(*args, **kwargs)
            file = Path(args[1] if name == "save_file" else args[0])
            with file.open("r+b") as opened:
                opened.truncate(file.stat().st_size // 2)
        elif name == "rmtree":
            file = next((p for p in Path(args[0]).rglob("*") if p.is_file()), None)
            if file:
                file.unlink()
        else:
            write(*args, **kwargs)


def moments(folder: Path) -> int:
    """How many writes one save takes."""
    folder.mkdir()
    save(folder, at(1))
    with pytest.MonkeyPatch.context() as patch:
        power = Power(patch, 0, half=False)
        save(folder, at(2))
    return power.count


@pytest.mark.parametrize("half", [False, True], ids=["before", "half-way"])
def test_a_crash_at_any_moment_leaves_a_whole_checkpoint_that_training_goes_on_from(tmp_path, half):
    count = moments(tmp_path / "count")
    assert count > 8
    seen = set()
    for moment in range(1, count + 1):
        run = tmp_path / str(moment)
        save(run, at(1))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
            Power(patch, moment, half=half)
            save(run, at(2))
        found = resume(run)
        assert same(found, at(found.step)), f"crash {moment}"
        assert found.step in (1, 2)
        assert last_step(run) == found.step
        seen.add(found.step)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 4_000_000)  # whoever goes on is another process
            for step in range(found.step + 1, 4):
                save(run, at(step))
        assert same(resume(run), at(3)), f"crash {moment}"
        left = sorted(p.name for p in (run / "resume").iterdir())
        assert left == ["last", "step-00000003"], f"crash {moment} left {left}"
    assert seen == {1, 2}


@pytest.mark.parametrize("half", [False, True], ids=["before", "half-way"])
def test_a_crash_during_the_first_save_is_a_run_without_a_checkpoint(tmp_path, half):
    for moment in range(1, 40):
        run = tmp_path / str(moment)
        run.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            power = Power(patch, moment, half=half)
            try:
                save(run, at(1))
            except Crash:
                pass
            else:
                assert power.count < moment
                break
        found = resume(run)
        assert found is None or same(found, at(1))
        save(run, at(1))
        assert same(resume(run), at(1))


def damage_nothing_left(folder: Path) -> None:
    shutil.rmtree(folder)


def damage_half_of_the_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def damage_a_missing_part(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()


def damage_the_header(folder: Path) -> None:
    file = folder / "best.safetensors"
    file.write_bytes(b"\xff" * 16 + file.read_bytes()[16:])


def damage_the_text(folder: Path) -> None:
    (folder / "checkpoint.json").write_text('{"step": 1, "sta')


def damage_the_meaning(folder: Path) -> None:
    (folder / "checkpoint.json").write_text("[]")


def damage_the_pointer(folder: Path) -> None:
    (folder.parent / "last").write_text("step-zzz")


def damage_an_empty_pointer(folder: Path) -> None:
    (folder.parent / "last").write_text("")


@pytest.mark.parametrize(
    "damage", [v for k, v in list(globals().items()) if k.startswith("damage_")], ids=lambda f: f.__name__
)
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path, damage):
    save(tmp_path, at(1))
    damage(tmp_path / "resume" / "step-00000001")
    with pytest.raises(CheckpointError) as error:
        resume(tmp_path)
    assert str(tmp_path / "resume") in str(error.value)
    assert "remove" in str(error.value)


def test_a_damaged_pointer_is_an_error_of_the_checkpoint_wherever_it_is_read(tmp_path):
    save(tmp_path, at(1))
    (tmp_path / "resume" / "last").write_text("garbage")
    with pytest.raises(CheckpointError, match="resume"):
        last_step(tmp_path)


def network(*, channels_last: bool) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, (3, 5)), nn.Flatten())
    model.append(nn.Linear(4 * 4 * 2, 2))
    return model.to(memory_format=torch.channels_last) if channels_last else model


def optimizer_of(model: nn.Module, name: str) -> torch.optim.Optimizer:
    groups = tuning.apply(model, {r"0\..*": 0.5, r".*": 1.0}, lr=0.01, weight_decay=0.1)
    return optim.build(groups, Optim(name=name), torch.device("cpu"))


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_an_optimizer_goes_on_bit_for_bit(tmp_path, name, channels_last):
    straight = network(channels_last=channels_last)
    learn(straight, optimizer_of(straight, name), range(6))

    first = network(channels_last=channels_last)
    optimizer = optimizer_of(first, name)
    learn(first, optimizer, range(3))
    names = {id(p): n for n, p in first.named_parameters()}
    save(tmp_path, Checkpoint(3, first.state_dict(), optimizer_state(optimizer, names)))

    found = resume(tmp_path)
    second = network(channels_last=channels_last)
    second.load_state_dict(found.model)
    optimizer = optimizer_of(second, name)
    load_optimizer(optimizer, found.optimizer, {id(p): n for n, p in second.named_parameters()})
    learn(second, optimizer, range(3, 6))
    for key, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_moments_follow_their_parameter_whatever_the_groups(tmp_path):
    model = network(channels_last=False)
    optimizer = optimizer_of(model, "adamw")
    learn(model, optimizer, range(2))
    names = {id(p): n for n, p in model.named_parameters()}
    state = optimizer_state(optimizer, names)
    regrouped = torch.optim.AdamW([{"params": list(model.parameters())[::-1]}])
    load_optimizer(regrouped, state, names)
    for p in model.parameters():
        assert torch.equal(regrouped.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])


def test_moments_of_something_that_no_longer_trains_are_an_error():
    model = network(channels_last=False)
    optimizer = optimizer_of(model, "adamw")
    learn(model, optimizer, range(1))
    names = {id(p): n for n, p in model.named_parameters()}
    state = optimizer_state(optimizer, names)
    partly = torch.optim.AdamW([p for n, p in model.named_parameters() if not n.startswith("0.")])
    with pytest.raises(CheckpointError, match=r"0\.weight"):
        load_optimizer(partly, state, names)


def test_run_json_is_the_seal(tmp_path, make_objective):
    """It comes last: where it is, everything else is."""
    model = make_objective("classify")
    for moment in range(1, 30):
        run = tmp_path / str(moment)
        with pytest.MonkeyPatch.context() as patch:
            Power(patch, moment, half=True)
            try:
                finish(run, model, {"verb": "finetune"})
                done = True
            except Crash:
                done = False
        if (run / "run.json").is_file():
            for name, state in (("model", model.state_dict()), ("backbone", model.backbone.net.state_dict())):
                found = checkpoint.load_file(run / f"{name}.safetensors")
                assert found.keys() == state.keys()
                assert all(torch.equal(found[k], v) for k, v in state.items())
        if done:
            break
    assert done


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "run.json"
    checkpoint.write_text(file, "old")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        Power(patch, 1, half=True)
        checkpoint.write_text(file, "much newer and longer")
    assert file.read_text() == "old"
    checkpoint.write_text(file, "größer")
    assert file.read_text(encoding="utf-8") == "größer"


def test_a_recipe_with_other_weights_to_train_is_told_to_use_another_folder(tmp_path, make_objective, make_data):
    from visionft.train import fit

    model = make_objective("classify")
    fit(model, make_data(model), Recipe(steps=2, batch=4, precision="fp32"), out=tmp_path)
    other = make_objective("classify")
    with pytest.raises(CheckpointError, match="out="):
        fit(other, make_data(other), Recipe(steps=2, batch=4, precision="fp32", tune="probe"), out=tmp_path)
