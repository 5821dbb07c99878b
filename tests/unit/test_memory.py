"""When memory runs out, a batch is computed in smaller parts: the run becomes one that was begun with these."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionft import checkpoint, memory, parallel
from visionft.errors import ConfigError
from visionft.objective import Objective
from visionft.recipe import Optim, Recipe
from visionft.retention.remedies import REMEDIES
from visionft.testing import check_parts
from visionft.train import fit

CPU = "[enforce fail at alloc_cpu.cpp:130] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
ERRORS = {"gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "cpu": RuntimeError(CPU)}


class Fails(torch.autograd.Function):
    """Memory runs out in the backward pass, when the gradient of other weights is there already."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise torch.OutOfMemoryError("CUDA out of memory")


class Tight(Objective):
    """A linear problem in a machine that holds so many images at a time, from a certain step on."""

    divides = True

    def __init__(self, room: int = 99, *, since: int = 0, error: str = "gpu", norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)
        self.room, self.since, self.error, self.done, self.sizes = room, since, error, 0, []

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x = batch["x"]
        self.sizes.append(len(x))
        full = len(x) > self.room and self.done >= self.since
        if full and self.error != "backward":
            raise ERRORS[self.error]
        y = self.backbone(x)
        return {"loss": (self.head(Fails.apply(y) if full else y)[:, 0] - x.sum(1)).square().mean()}

    def after_step(self, progress: float) -> None:
        self.done += 1


@pytest.fixture
def points() -> list[dict[str, Tensor]]:
    rng = np.random.default_rng(0)
    return [{"x": torch.tensor(rng.normal(size=3), dtype=torch.float32)} for _ in range(40)]


def recipe(**changes) -> Recipe:
    optim = Optim(name="adamw", lr=0.05)
    return Recipe(**{"steps": 6, "batch": 12, "precision": "fp32", "log_every": 1, "optim": optim, **changes})


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("error", ["gpu", "cpu", "backward"])
def test_a_run_that_ran_out_at_its_start_is_one_begun_with_these_parts(points, error):
    tight, told = Tight(room=3, error=error), Tight()
    heard = []
    fitted = fit(tight, points, recipe(), log=lambda step, metrics: heard.append((step, metrics)))
    fit(told, points, recipe(accumulate=4))
    assert same(tight, told)
    assert tight.sizes == [12, 6] + [3] * 4 * 6
    assert fitted.accumulate == 4
    assert [(step, m) for step, m in heard if "loss" not in m] == [(1, {"accumulate": 4.0})], "said once, where it was"


def test_the_optimizer_sees_the_same_images_whatever_the_parts(points):
    """Without dropout nothing but rounding tells how many parts there were, from whichever step on."""
    tight, whole = Tight(room=4, since=3), Tight()
    for model in (tight, whole):
        model.backbone[2].p = 0.0
        fit(model, points, recipe(optim=Optim(name="sgd", lr=0.05)))
    assert tight.sizes == [12] * 4 + [6] + [3] * 12
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(tight.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_memory_that_runs_out_in_the_middle_of_a_batch_leaves_nothing_behind(points):
    """The second of two parts fails: the first one's gradient must not count twice."""

    class Midway(Tight):
        def forward(self, batch):
            self.room = 3 if len(self.sizes) == 5 else 99
            return super().forward(batch)

    broken, told = Midway(), Tight()
    for model in (broken, told):
        model.backbone[2].p = 0.0
        fit(model, points, recipe(accumulate=2, optim=Optim(name="sgd", lr=0.05)))
    assert broken.sizes[:10] == [6, 6, 6, 6, 6, 6, 3, 3, 3, 3]
    for key, value in told.state_dict().items():
        torch.testing.assert_close(broken.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_remembers_its_parts(points, tmp_path):
    class Killed(BaseException):
        pass

    def dies(step: int, metrics: dict) -> None:
        if step == 4 and "loss" in metrics:
            raise Killed

    straight, first, second = Tight(room=3, since=2), Tight(room=3, since=2), Tight(room=99)
    fit(straight, points, recipe(save_every=1))
    with pytest.raises(Killed):
        fit(first, points, recipe(save_every=1), out=tmp_path, log=dies)
    assert checkpoint.last_step(tmp_path) == 3
    fitted = fit(second, points, recipe(save_every=1), out=tmp_path)
    assert set(second.sizes) == {3}
    assert fitted.accumulate == 4
    assert same(second, straight)


def test_parts_are_equal_where_halves_are_not(points):
    """18 images: 9 cannot be halved, thirds can."""
    model = Tight(room=8)
    fit(model, points, recipe(batch=18, accumulate=2, steps=1))
    assert model.sizes == [9] + [3] * 6


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Tight(room=0), r"1 images? at a time.*size="),
        (Tight(room=3, norm=True), r"12 images at a time.*batch norms.*accumulate=2"),
    ],
)
def test_what_smaller_parts_cannot_help_or_would_change_is_refused(points, model, why):
    with pytest.raises(ConfigError, match=why):
        fit(model, points, recipe())


def test_a_loss_that_compares_images_is_refused(make_objective, make_data, monkeypatch):
    model = make_objective("simclr", "test_vit")

    def full(*_):
        raise ERRORS["gpu"]

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(ConfigError, match=r"8 images at a time.*the loss of SimCLR depends.*accumulate=2"):
        fit(model, make_data(model), recipe(batch=8, optim=Optim()))


def test_frozen_batch_norms_are_no_reason_to_refuse(make_objective, make_data, monkeypatch):
    tight, told = (make_objective("classify", "test_resnet", dropout=0.3) for _ in range(2))
    own = tight.forward

    def limited(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if len(batch["image"]) > 4:
            raise ERRORS["gpu"]
        return own(batch)

    monkeypatch.setattr(tight, "forward", limited)
    with pytest.raises(ConfigError, match="batch norms"):
        fit(tight, make_data(tight), recipe(batch=8, optim=Optim(), batchnorm="train", steps=3))
    fit(tight, make_data(tight), recipe(batch=8, optim=Optim(), batchnorm="frozen", steps=3))
    fit(told, make_data(told), recipe(batch=8, optim=Optim(), batchnorm="frozen", steps=3, accumulate=2))
    assert same(tight, told)


@pytest.mark.parametrize("keep", ["l2sp", "lwf"])
def test_a_remedy_against_forgetting_divides_as_its_task_does(make_objective, make_data, keep):
    kept = REMEDIES[keep](make_objective("classify"))
    with torch.no_grad():
        for weight in kept.parameters():
            weight.add_(0.05)  # away from the start, where the penalty is not nothing
    data = make_data(kept)
    batch = data.collate([data[at] for at in range(6)])
    assert kept.divides and float(kept(batch)[keep].detach()) > 0
    check_parts(kept, batch)
    assert not REMEDIES[keep](make_objective("simclr")).divides


def test_replay_does_not_divide(make_objective):
    """It brings one retained image along for so many new ones of a part."""
    assert not REMEDIES["replay"](make_objective("classify")).divides


def test_other_errors_are_not_about_memory(points):
    class Broken(Tight):
        def forward(self, batch):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        fit(Broken(), points, recipe())


def test_a_real_allocation_that_is_too_large_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert memory.ran_out(caught.value)


def test_trying_whether_a_part_fits_leaves_no_trace(points):
    model = Tight(room=6, norm=True).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def attempt(images: int) -> None:
        batch = {"x": torch.stack([point["x"] for point in points[:images]])}
        assert parallel.world() == 1
        model(batch)["loss"].backward()

    assert memory.fits(lambda: attempt(6), model)
    assert not memory.fits(lambda: attempt(7), model)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert all(p.grad is None for p in model.parameters())
