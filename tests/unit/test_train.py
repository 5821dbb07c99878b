"""The one loop: parts make a batch, an interrupted run becomes the unbroken one, and every end is in order."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionft import checkpoint
from visionft.errors import ConfigError, DivergedError
from visionft.fitted import Stop
from visionft.objective import Objective
from visionft.pace import total_steps
from visionft.recipe import Optim, Recipe
from visionft.train import fit


class Killed(BaseException):
    """Nothing in the loop may catch this."""


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in model.state_dict().items()}


def differs(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    return [k for k in {**a, **b} if k not in a or k not in b or not torch.equal(a[k], b[k])]


def recipe(**changes) -> Recipe:
    return Recipe(**{"steps": 6, "batch": 8, "precision": "fp32", "log_every": 1, **changes})


@pytest.mark.parametrize(
    ("name", "model"),
    [("classify", "test_vit"), ("classify", "test_convnext"), ("mae", "test_vit")],
)
@pytest.mark.parametrize("optimizer", [Optim(name="sgd", lr=0.05), Optim(name="sgd", lr=0.05, clip=0.05)], ids=str)
def test_four_accumulated_quarters_equal_one_batch(make_objective, make_data, name, model, optimizer):
    whole, parts, said = make_objective(name, model), make_objective(name, model), ([], [])
    start = state(whole)
    for objective, count, losses in zip((whole, parts), (1, 4), said, strict=True):
        told = recipe(steps=3, optim=optimizer, accumulate=count)
        fit(objective, make_data(objective), told, log=lambda step, metrics, to=losses: to.append(metrics["loss"]))
    assert said[1] == pytest.approx(said[0], rel=1e-5)
    for key, value in state(whole).items():
        torch.testing.assert_close(state(parts)[key], value, rtol=1e-5, atol=1e-6)
    assert differs(state(whole), start)


def interrupted(make, data, recipe: Recipe, out, *, at: int, evaluate=None) -> Objective:
    """Train until step `at` has been logged, die there, and go on from the last checkpoint in a new process's place."""

    def dies(step: int, metrics: dict) -> None:
        if step == at:
            raise Killed

    first = make()
    with pytest.raises(Killed):
        fit(first, data(first), recipe, out=out, evaluate=evaluate, log=dies)
    assert 0 < checkpoint.last_step(out) < at
    torch.manual_seed(999)  # nothing may depend on what the global stream holds
    np.random.default_rng(5)
    second = make()
    fit(second, data(second), recipe, out=out, evaluate=evaluate)
    return second


CASES = {
    "classify, batch norms": ("classify", "test_resnet", {}),
    "classify, transformer": ("classify", "test_vit", {}),
    "simclr, batch norms": ("simclr", "test_resnet", {}),
    "simclr, lars": ("simclr", "test_resnet", {"optim": Optim(name="lars", lr=0.5)}),
    "dino, batch norms": ("dino", "test_resnet", {}),
    "dino, transformer, parts": ("dino", "test_vit", {"accumulate": 2}),
    "mae": ("mae", "test_vit", {}),
    "an average": ("classify", "test_efficientnet", {"ema": 0.5}),
    "layer-wise sgd": ("classify", "test_resnet", {"tune": "layerwise:0.1", "optim": Optim(name="sgd", lr=0.1)}),
    "frozen norms": ("classify", "test_resnet", {"batchnorm": "frozen", "tune": "last:2"}),
    "norms measured anew": ("classify", "test_resnet", {"batchnorm": "recalibrate", "ema": 0.5}),
    "bf16": ("classify", "test_resnet", {"precision": "bf16"}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_ends_with_the_weights_of_the_unbroken_one(make_objective, make_data, tmp_path, case):
    name, model, changes = CASES[case]
    told = recipe(save_every=1, **changes)

    def make() -> Objective:
        return make_objective(name, model, **({"dropout": 0.3} if name == "classify" else {}))

    straight = make()
    start = state(straight)
    fit(straight, make_data(straight), told)
    broken = interrupted(make, make_data, told, tmp_path, at=4)
    assert differs(state(broken), state(straight)) == []
    assert differs(state(straight), start)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_everything_saved(make_objective, make_data, tmp_path, number):
    def asks(step: int, metrics: dict) -> None:
        if step == 3:
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    straight, first, second = (make_objective("classify", "test_efficientnet") for _ in range(3))
    told = recipe(optim=Optim(name="sgd", lr=0.1))
    fit(straight, make_data(straight), told)
    with pytest.raises(KeyboardInterrupt, match="after step 3"):
        fit(first, make_data(first), told, out=tmp_path, log=asks)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert checkpoint.last_step(tmp_path) == 3
    fit(second, make_data(second), told, out=tmp_path)
    assert differs(state(second), state(straight)) == []


def test_a_second_signal_stops_at_once(make_objective, make_data):
    heard = []

    def asks(step: int, metrics: dict) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        heard.append(step)

    model = make_objective("classify")
    with pytest.raises(KeyboardInterrupt):
        fit(model, make_data(model), recipe(), log=asks)
    assert heard == []


def test_training_works_outside_the_main_thread(make_objective, make_data):
    model = make_objective("classify")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fit, model, make_data(model), recipe(steps=2)).result().steps == 2


def distance(start: Mapping[str, Tensor], sign: int = 1):
    """An evaluation that gets steadily worse (or better): how far the head has moved."""

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert not model.training
        return {"log_loss": sign * float((model.head.weight.detach() - start["head.weight"]).norm())}

    return evaluate


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_early_stopping_is_resumed_where_it_was(make_objective, make_data, tmp_path, ema):
    told = recipe(steps=12, save_every=1, eval_every=1, metric="log_loss", patience=5, ema=ema)

    def make() -> Objective:
        return make_objective("classify", "test_resnet")

    evaluate = distance(state(make()))
    straight = make()
    fitted = fit(straight, make_data(straight), told, evaluate=evaluate)
    assert (fitted.steps, fitted.best_step) == (5, 0)
    broken = interrupted(make, make_data, told, tmp_path, at=4, evaluate=evaluate)
    assert differs(state(broken), state(straight)) == []


def test_going_on_after_the_end_changes_nothing(make_objective, make_data, tmp_path):
    model = make_objective("classify")
    first = fit(model, make_data(model), recipe(), out=tmp_path)
    again = make_objective("classify")
    second = fit(again, make_data(again), recipe(), out=tmp_path)
    assert (second.steps, second.precision) == (first.steps, first.precision)
    assert differs(state(again), state(model)) == []


def test_going_on_after_an_early_stop_stays_stopped(make_objective, make_data, tmp_path):
    told = recipe(steps=12, eval_every=1, metric="log_loss", patience=2)
    evaluate = distance(state(make_objective("classify")))
    model, again = make_objective("classify"), make_objective("classify")
    first = fit(model, make_data(model), told, out=tmp_path, evaluate=evaluate)
    second = fit(again, make_data(again), told, out=tmp_path, evaluate=evaluate)
    assert (first.steps, first.stopped, first.best_step) == (second.steps, second.stopped, second.best_step)
    assert first.metrics == second.metrics
    assert differs(state(again), state(model)) == []


def test_time_spent_before_an_interruption_counts(make_objective, make_data, tmp_path):
    model = make_objective("classify")
    fit(model, make_data(model), recipe(), out=tmp_path)
    file = next(tmp_path.rglob("checkpoint.json"))
    text = json.loads(file.read_text())
    text["facts"]["elapsed"] = 1000.0
    file.write_text(json.dumps(text))
    again = make_objective("classify")
    assert fit(again, make_data(again), recipe(), out=tmp_path).seconds >= 1000


def test_early_stopping_keeps_the_best_weights(make_objective, make_data):
    model, seen = make_objective("classify"), []

    def evaluate(model: nn.Module) -> dict[str, float]:
        seen.append(state(model))
        return {"log_loss": [4.0, 3.0, 1.0, 2.0, 1.5, 9.0][len(seen) - 1]}

    fitted = fit(
        model, make_data(model), recipe(steps=12, eval_every=1, metric="log_loss", patience=3), evaluate=evaluate
    )
    assert (fitted.steps, fitted.best_step, fitted.metrics) == (5, 2, {"log_loss": 1.0})
    assert "log_loss" in fitted.stopped
    assert "2" in fitted.stopped
    assert differs(state(model), seen[2]) == []
    assert not model.training


def test_the_start_stands_for_election(make_objective, make_data):
    """Fine-tuning that only hurts must leave the weights it was given."""
    model = make_objective("classify", "test_resnet")
    start = state(model)
    fitted = fit(model, make_data(model), recipe(eval_every=1, metric="log_loss", patience=3), evaluate=distance(start))
    assert (fitted.best_step, fitted.metrics) == (0, {"log_loss": 0.0})
    assert differs(state(model), start) == []


def test_metrics_without_loss_in_their_name_go_up(make_objective, make_data):
    values = iter([0.0, 0.1, 0.5, 0.4, 0.3, 0.2])
    model = make_objective("classify")
    told = recipe(steps=5, eval_every=1, metric="accuracy", patience=4)
    fitted = fit(model, make_data(model), told, evaluate=lambda model: {"accuracy": next(values)})
    assert fitted.best_step == 2


def test_a_metric_that_nobody_measures_is_named_with_those_that_are(make_objective, make_data):
    model = make_objective("classify")
    with pytest.raises(ConfigError, match=r"metric=f1.*accuracy, log_loss"):
        fit(
            model,
            make_data(model),
            recipe(eval_every=1, metric="f1", patience=1),
            evaluate=lambda model: {"accuracy": 1.0, "log_loss": 0.1},
        )


def test_without_patience_the_last_weights_are_kept(make_objective, make_data):
    model, seen = make_objective("classify"), []

    def evaluate(model: nn.Module) -> dict[str, float]:
        seen.append(state(model))
        return {"loss": float(len(seen))}

    fitted = fit(model, make_data(model), recipe(eval_every=2), evaluate=evaluate)
    assert (len(seen), fitted.best_step, fitted.metrics, fitted.stopped) == (3, 6, {"loss": 3.0}, "")
    assert differs(state(model), seen[-1]) == []


def test_an_evaluation_that_says_stop_ends_the_run_in_order(make_objective, make_data, tmp_path):
    calls, heard = [], []

    def evaluate(model: nn.Module) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise Stop("it collapsed", {"effective_rank": 1.0})
        return {"effective_rank": 9.0}

    model = make_objective("classify")
    fitted = fit(
        model,
        make_data(model),
        recipe(steps=12, eval_every=2),
        out=tmp_path,
        evaluate=evaluate,
        log=lambda step, metrics: heard.append((step, metrics)),
    )
    assert (fitted.steps, fitted.stopped) == (4, "it collapsed")
    assert (4, {"effective_rank": 1.0}) in heard
    assert checkpoint.last_step(tmp_path) == 4
    assert not model.training
    again = make_objective("classify")
    assert fit(again, make_data(again), recipe(steps=12, eval_every=2), out=tmp_path, evaluate=evaluate).steps == 4


class Poisoned(Objective):
    """Learns well until the draws of a certain step come by."""

    def __init__(self, inner: Objective, at: int, poison: str) -> None:
        super().__init__()
        self.backbone, self.head, self.inner = inner.backbone, inner.head, [inner]
        self.calls, self.at, self.poison = 0, at, poison

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        losses = self.inner[0](batch)
        if self.calls == self.at:
            bad = {"nan": losses["loss"] * float("nan"), "inf": losses["loss"] * float("inf")}
            bad["constant nan"] = losses["loss"] * 0 + losses["loss"].detach() * float("nan")  # its gradient is zero
            bad["gradient"] = (self.head.bias - self.head.bias.detach()).abs().sqrt().sum() + losses["loss"]
            losses = {**losses, "loss": bad[self.poison]}
        return losses


@pytest.mark.parametrize("poison", ["nan", "inf", "constant nan", "gradient"])
def test_what_is_not_finite_stops_the_run_naming_the_step_and_the_losses(make_objective, make_data, tmp_path, poison):
    model = Poisoned(make_objective("classify"), 4, poison)
    Poisoned.sees = make_objective("classify").sees
    with pytest.raises(DivergedError, match=r"step 4\b.*'loss'.*optim\.lr"):
        fit(model, make_data(model), recipe(save_every=1), out=tmp_path)
    assert all(p.isfinite().all() for p in model.parameters()), "the weights before it are kept"
    assert checkpoint.last_step(tmp_path) == 3


def test_the_losses_named_are_those_of_the_part_that_went_wrong(make_objective, make_data):
    model = Poisoned(make_objective("classify"), 5, "nan")  # the first part of the third step
    Poisoned.sees = make_objective("classify").sees
    with pytest.raises(DivergedError, match=r"step 3\b.*'loss': nan"):
        fit(model, make_data(model), recipe(accumulate=2))


def test_a_time_budget_ends_the_run_and_the_schedule_follows_the_clock(make_objective, make_data):
    heard: list[dict[str, float]] = []
    model = make_objective("classify")
    began = time.perf_counter()
    fitted = fit(
        model, make_data(model), recipe(steps=None, minutes=0.015), log=lambda step, metrics: heard.append(metrics)
    )
    spent = time.perf_counter() - began
    assert 0.9 <= spent < 1.9
    assert 0.9 <= fitted.seconds < 1.7
    progress = [metrics["progress"] for metrics in heard]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert len(progress) == fitted.steps > 3
    rates = [metrics["lr"] for metrics in heard]
    peak = int(np.argmax(rates))
    assert max(rates) <= fitted.lr
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.2 * max(rates)


def test_time_that_runs_out_between_two_lines_still_ends_the_run_in_order(make_objective, make_data, monkeypatch):
    """The last step is logged and evaluated, at whatever moment the clock strikes: here each glance takes a second."""
    now = [0.0]

    def glance() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr("visionft.pace.time.perf_counter", glance)
    for seconds in range(40, 60):
        model, logged, evaluated = make_objective("classify"), [], []
        told = recipe(steps=None, minutes=seconds / 60, log_every=1000, eval_every=1000, batch=2)
        fitted = fit(
            model,
            make_data(model),
            told,
            evaluate=lambda m, seen=evaluated: seen.append(1) or {"loss": 0.0},
            log=lambda step, metrics, seen=logged: seen.append(step),
        )
        assert logged == [fitted.steps] * 2, seconds  # the losses, and the evaluation
        assert len(evaluated) == 1


def test_the_first_limit_reached_ends_the_run(make_objective, make_data):
    model = make_objective("classify")
    assert fit(model, make_data(model), recipe(steps=2, epochs=50, minutes=5)).steps == 2
    assert fit(model, make_data(model), recipe(steps=200, epochs=1, minutes=5)).steps == 3
    assert fit(model, make_data(model), recipe(steps=10**6, minutes=0.002)).steps < 1000


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({"steps": 5}, 5), ({"epochs": 2}, 20), ({"epochs": 0.5}, 5), ({"epochs": 0.001}, 1),
     ({"steps": 7, "epochs": 9}, 7), ({"minutes": 3}, None)],
)  # fmt: skip
def test_steps_and_epochs_are_counted_in_batches(asked, expected):
    assert total_steps(Recipe(batch=10, **asked), 100) == expected


def test_a_run_without_a_length_or_without_images_is_refused(make_objective, make_data):
    with pytest.raises(ConfigError, match="steps=, epochs= or minutes="):
        total_steps(Recipe(), 100)
    with pytest.raises(ConfigError, match="no images"):
        total_steps(Recipe(steps=1), 0)
    model = make_objective("classify")
    with pytest.raises(ConfigError, match="steps="):
        fit(model, make_data(model), Recipe())


def test_every_step_is_heard_of_with_its_losses_rate_and_pace(make_objective, make_data):
    heard = []
    model = make_objective("classify")
    fit(model, make_data(model), recipe(log_every=2), log=lambda step, metrics: heard.append((step, metrics)))
    assert [step for step, _ in heard] == [2, 4, 6]
    for _, metrics in heard:
        assert {"loss", "grad_norm", "lr", "images_per_second", "seconds", "seconds_left", "progress"} <= set(metrics)
        assert all(isinstance(value, float) for value in metrics.values())
    assert heard[-1][1]["progress"] == 1
    assert heard[-1][1]["seconds_left"] == 0


def test_it_learns(make_objective, make_data):
    """24 images of three kinds: chance is a loss of 1.1."""
    model = make_objective("classify", "test_resnet")
    fit(model, make_data(model), recipe(steps=40, batch=24, optim=Optim(lr=3e-3)))
    data = make_data(model, policy="none")
    batch = data.collate([data[i] for i in range(24)])
    with torch.no_grad():
        assert model.predict(batch["image"]).argmax(1).eq(batch["label"]).float().mean() > 0.9


def test_an_average_is_what_is_evaluated_and_kept(make_objective, make_data):
    seen = []
    model, plain = make_objective("classify"), make_objective("classify")
    fit(model, make_data(model), recipe(ema=0.5, eval_every=6), evaluate=lambda m: seen.append(state(m)) or {})
    fit(plain, make_data(plain), recipe())
    assert differs(seen[-1], state(model)) == []
    moved = (state(model)["head.weight"] - state(plain)["head.weight"]).norm()
    assert moved > 0


def test_the_average_of_a_run_is_the_closed_form_over_its_steps(make_objective, make_data):
    """Horizon half a run of six steps: each step's weights count exp(-1/3) times as much as the next one's."""
    model, seen = make_objective("classify"), []
    seen.append(model.head.weight.detach().clone())
    model.after_step = lambda progress: seen.append(model.head.weight.detach().clone())
    fit(model, make_data(model), recipe(ema=0.5))
    share = 1 - math.exp(-1 / 3)
    expected = (1 - share) ** 6 * seen[0] + sum(share * (1 - share) ** (6 - at) * seen[at] for at in range(1, 7))
    torch.testing.assert_close(model.head.weight.detach(), expected)


@pytest.mark.parametrize("clip", [1e-3, None])
def test_a_clipped_step_is_as_long_as_the_clip_allows(make_objective, make_data, clip):
    model, heard = make_objective("classify"), []
    start = state(model)
    optimizer = Optim(name="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, warmup=0.0, schedule="constant", clip=clip)
    fit(model, make_data(model), recipe(steps=1, optim=optimizer), log=lambda step, metrics: heard.append(metrics))
    moved = torch.stack([(p.detach() - start[name]).norm() for name, p in model.named_parameters()]).norm()
    assert heard[0]["grad_norm"] > 0.1, "the norm that is logged is the one before clipping"
    assert float(moved) == pytest.approx(0.5 * (clip or heard[0]["grad_norm"]), rel=1e-3)


def test_a_run_warms_up_and_then_falls(make_objective, make_data):
    model, rates = make_objective("classify"), []
    optimizer = Optim(lr=1.0, warmup=0.4, schedule="linear", final=0.25)
    fit(model, make_data(model), recipe(steps=10, optim=optimizer), log=lambda step, m: rates.append(m["lr"]))
    middles = [(at + 0.5) / 10 for at in range(10)]
    assert rates == pytest.approx([x / 0.4 if x < 0.4 else 1 - 0.75 * (x - 0.4) / 0.6 for x in middles])


def test_two_runs_of_one_recipe_are_one(make_objective, make_data):
    def run(global_seed: int, **changes) -> dict[str, Tensor]:
        model = make_objective("classify", "test_resnet", dropout=0.5)
        data = make_data(model)
        torch.manual_seed(global_seed)
        fit(model, data, recipe(steps=3, **changes))
        return state(model)

    first = run(1)
    assert differs(run(2), first) == []
    assert differs(run(2, seed=1), first)


def test_choosing_the_arithmetic_leaves_no_trace(make_objective, make_data):
    """auto measures on a copy: the run is that of a recipe that had named the winner."""
    measured = make_objective("simclr", "test_resnet")
    fitted = fit(measured, make_data(measured), recipe(steps=2, precision="auto"))
    assert "measured" in fitted.precision
    told = make_objective("simclr", "test_resnet")
    fit(told, make_data(told), recipe(steps=2, precision="bf16" if fitted.precision.startswith("bf16") else "fp32"))
    assert differs(state(measured), state(told)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make_objective, make_data, workers):
    def run(workers: int) -> dict[str, Tensor]:
        model = make_objective("classify", dropout=0.5)
        fit(model, make_data(model), recipe(steps=3, workers=workers))
        return state(model)

    assert differs(run(workers), run(0)) == []


def test_a_batch_larger_than_the_data_goes_round(make_objective, make_data):
    model = make_objective("classify")
    assert fit(model, make_data(model), recipe(steps=2, batch=40)).steps == 2


def test_the_objective_hears_how_much_is_done(make_objective, make_data):
    model, heard = make_objective("classify"), []
    model.after_step = heard.append
    fit(model, make_data(model), recipe(steps=4))
    assert heard == [0.25, 0.5, 0.75, 1.0]


def test_any_data_set_with_tensors_will_do():
    """The loop asks for nothing that torch's own data sets lack."""

    class Line(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(1, 1)

        def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": (self.backbone(batch["x"]) - 3 * batch["x"] - 1).square().mean()}

    points = [{"x": torch.tensor([x / 10])} for x in range(-10, 11)]
    model = Line()
    fit(model, points, recipe(steps=200, precision="auto", optim=Optim(name="sgd", lr=0.3, weight_decay=0)))
    assert float(model.backbone.weight.detach()) == pytest.approx(3, abs=0.1)
    assert float(model.backbone.bias.detach()) == pytest.approx(1, abs=0.1)


def test_a_run_by_the_clock_is_judged_ten_times_however_fast_it_is(make_objective, make_data, monkeypatch):
    """Steps of 1/34 of the budget: fewer than fifty, which once were the least between two evaluations."""
    ticks = iter(range(10_000))
    monkeypatch.setattr("visionft.pace.time.perf_counter", lambda: float(next(ticks)))
    seen = []
    objective = make_objective("classify")
    fit(
        objective,
        make_data(objective),
        recipe(steps=None, minutes=2.0, log_every=1000),
        evaluate=lambda _: seen.append(1) or {},
    )
    assert 9 <= len(seen) <= 11
