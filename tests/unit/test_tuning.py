"""An ordered table says what learns and how fast; what is frozen does not move by one bit."""

from __future__ import annotations

import copy
import itertools
import re
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from visionft import optim, tuning
from visionft.adapters.attach import adapt
from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.norms import settle
from visionft.recipe import Optim, Recipe
from visionft.tasks.classify import Classify
from visionft.train import fit
from visionft.tuning import apply, describe, table


@pytest.fixture
def model(make_objective) -> Classify:
    return make_objective("classify", "test_resnet")


def rates(model: nn.Module, groups: list[dict]) -> dict[str, float]:
    """Rate of every parameter by name, 0 where it is in no group."""
    at = {id(p): group["lr"] for group in groups for p in group["params"]}
    return {name: at.get(id(p), 0.0) for name, p in model.named_parameters()}


def apply_to(model: nn.Module, choice, **changes) -> dict[str, float]:
    return rates(model, apply(model, table(model, choice), **{"lr": 1.0, "weight_decay": 0.1, **changes}))


def test_the_first_match_wins(model):
    found = apply_to(model, {r"backbone\.net\.layer1\..*": 0.25, r"backbone\..*": 0.5, r".*": 1.0})
    for name, rate in found.items():
        layer1, backbone = name.startswith("backbone.net.layer1."), name.startswith("backbone.")
        assert rate == (0.25 if layer1 else 0.5 if backbone else 1.0), name


def test_an_earlier_everything_leaves_later_patterns_idle(model):
    with pytest.raises(ConfigError, match=r"match no parameter: head\\\.\.\*"):
        apply(model, {r".*": 1.0, r"head\..*": 0.5}, lr=1.0, weight_decay=0.0)


def test_zero_freezes(model):
    found = apply_to(model, {r"backbone\..*": 0, r".*": 1})
    for name, p in model.named_parameters():
        assert p.requires_grad == (found[name] > 0) == name.startswith("head."), name


def test_a_pattern_matches_whole_names(model):
    with pytest.raises(ConfigError, match="match no parameter: head"):
        apply(model, {"head": 0.5, ".*": 1.0}, lr=1.0, weight_decay=0.0)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({r"backbone\.blocks\..*": 0.0, r".*": 1.0}, "match no parameter: backbone"),
        ({r"head\..*": 1.0}, "no tuning rule matches backbone.net.conv1"),
        ({r".*": 0.0}, "freezes every parameter"),
        ({r"backbone\.(": 0.0, r".*": 1.0}, r"backbone\.("),  # no regular expression
        ({r"head\..*": -1.0, r".*": 1.0}, r"head\..*"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(model, rules, said):
    with pytest.raises(ConfigError) as error:
        apply(model, table(model, rules), lr=1.0, weight_decay=0.0)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "choice",
    [
        "fulll",
        "last",
        "last:x",
        "last:0",
        "stage:x",
        "layerwise:x",
        "layerwise:-1",
        "probe:3",
        "surgical",
        "surgical:middle",
        "gradual:2",
        "bias:1",
    ],
)
def test_a_word_that_is_no_table_is_refused_with_what_there_is(model, choice):
    with pytest.raises(ConfigError, match=re.escape(choice)):
        apply(model, table(model, choice), lr=1.0, weight_decay=0.0)


def test_a_teacher_is_not_ours_to_tune(make_objective):
    dino = make_objective("dino", "test_resnet")
    apply(dino, table(dino, "full"), lr=1.0, weight_decay=0.0)
    assert not any(p.requires_grad for p in dino.teacher.parameters())
    assert all(p.requires_grad for p in dino.backbone.parameters())


def test_biases_and_norms_do_not_decay(model):
    groups = apply(model, table(model, "full"), lr=1.0, weight_decay=0.1)
    for group in groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.1 if p.ndim > 1 else 0.0)
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("k", [1, 2])
def test_last_k_trains_the_k_layers_next_to_the_head(make_objective, name, k):
    model = make_objective("classify", name)
    depth = {f"backbone.{n}": d for n, d in model.backbone.depth_of().items()}
    top = max(depth.values())
    for parameter, rate in apply_to(model, f"last:{k}").items():
        assert (rate > 0) == (depth.get(parameter, top) > top - k), parameter


def test_last_enough_is_full(model):
    assert set(apply_to(model, "last:99").values()) == {1.0}


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_a_layerwise_total_is_the_ratio_of_stem_to_head_on_every_architecture(name):
    model = Classify(Backbone(name, size=32), classes=2)
    found = apply_to(model, "layerwise:0.02", lr=3.0)
    depth = {f"backbone.{n}": d for n, d in model.backbone.depth_of().items()}
    assert found["head.weight"] == pytest.approx(3.0)
    by_depth = {d: {found[n] for n in depth if depth[n] == d} for d in sorted(set(depth.values()))}
    assert all(len(rates) == 1 for rates in by_depth.values())
    ramp = [rates.pop() for rates in by_depth.values()]
    assert ramp[0] / found["head.weight"] == pytest.approx(0.02)
    assert ramp == sorted(ramp)
    assert len({round(b / a, 9) for a, b in itertools.pairwise(ramp)}) == 1  # geometric


def test_layerwise_alone_means_a_tenth(model):
    found = apply_to(model, "layerwise")
    assert min(found.values()) / max(found.values()) == pytest.approx(0.1)


def test_rates_are_real_and_survive_a_torch_scheduler(make_objective):
    """timm's lr_scale is dropped by every scheduler of torch; a rate in the group itself is not."""
    model = make_objective("classify", "test_vit")
    groups = apply(model, table(model, "layerwise:0.01"), lr=1.0, weight_decay=0.1)
    before = rates(model, groups)
    optimizer = optim.build(groups, Optim(), torch.device("cpu"))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stepping it without an optimizer step is what we want here
        for _ in range(5):
            scheduler.step()
    after = rates(model, optimizer.param_groups)
    assert after == {name: pytest.approx(0.5 * rate) for name, rate in before.items()}
    assert len(set(after.values())) > 5


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_100", "test_efficientnet"])
@pytest.mark.parametrize("norms", ["train", "frozen"])
def test_a_frozen_batchnorm_network_does_not_move_by_one_bit(name, norms, make_objective, make_data):
    model = make_objective("classify", name).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        before, weights = model.eval().backbone(images), {k: v.clone() for k, v in model.backbone.state_dict().items()}
    head = model.head.weight.detach().clone()
    recipe = Recipe(steps=4, batch=8, tune="probe", batchnorm=norms, precision="fp32", optim=Optim(lr=0.1))
    fit(model, make_data(model), recipe)
    with torch.no_grad():
        assert torch.equal(model.eval().backbone(images), before)
    assert all(torch.equal(v, weights[k]) for k, v in model.backbone.state_dict().items())
    assert not torch.equal(model.head.weight, head)  # it did train


def test_layers_below_the_trained_ones_do_not_move_either(make_objective, make_data):
    model = make_objective("classify", "test_resnet")
    top = max(model.backbone.depth_of().values())
    learned = {n for n, d in model.backbone.depth_of().items() if d > top - 1}
    owners = {n.rpartition(".")[0] for n in learned}
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    recipe = Recipe(steps=3, batch=8, tune="last:1", precision="fp32", optim=Optim(lr=0.1))
    fit(model, make_data(model), recipe)
    changed = {k for k, v in model.backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert {k for k in changed if k.rpartition(".")[0] not in owners} == set()
    assert learned <= changed


def test_frozen_norms_keep_statistics_and_weights_while_the_rest_learns(make_objective, make_data):
    model = make_objective("classify", "test_resnet")
    norms = {n for n, m in model.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    recipe = Recipe(steps=3, batch=8, batchnorm="frozen", precision="fp32", optim=Optim(lr=0.1))
    fit(model, make_data(model), recipe)
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]) == (key.rpartition(".")[0] in norms), key


def test_trained_norms_do_move(make_objective, make_data):
    model = make_objective("classify", "test_resnet")
    before = model.backbone.net.bn1.running_mean.clone()
    fit(model, make_data(model), Recipe(steps=2, batch=8, precision="fp32"))
    assert not torch.equal(model.backbone.net.bn1.running_mean, before)


def test_settling_silences_dropout_in_what_is_frozen_only():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Linear(2, 2), nn.Dropout())
    model[0].requires_grad_(False)
    settle(model.eval())
    assert [m.training for m in (model[0], model[0][0], model[0][1])] == [False, False, False]
    assert [m.training for m in (model, model[1], model[2])] == [True, True, True]


def test_the_description_accounts_for_every_weight(make_objective):
    model = make_objective("dino", "test_vit")
    recipe = Recipe(tune={r"backbone\.net\.patch_embed\..*": 0, r".*": 1.0})
    *rows, (_, _, tensors, total) = describe(model, tuning.groups(model, recipe))
    assert sum(weights for *_, weights in rows) == total == sum(p.numel() for p in model.parameters())
    assert sum(count for *_, count, _ in rows) == tensors == len(list(model.parameters()))
    frozen = next(weights for name, _, _, weights in rows if "frozen" in name)
    patch = model.backbone.net.patch_embed
    assert frozen == sum(p.numel() for m in (patch, model.teacher) for p in m.parameters())


STAGES = {"test_resnet": 4, "test_efficientnet": 4, "test_vit": 4, "vit_tiny_patch16_224": 4, "convnext_atto": 4}


@pytest.mark.parametrize("name", STAGES)
def test_stages_follow_the_depth_and_are_what_the_architecture_calls_so(name):
    backbone = Backbone(name)
    stage, depth = backbone.stage_of(), backbone.depth_of()
    assert stage.keys() == depth.keys()
    by_depth = [stage[n] for n in sorted(depth, key=depth.__getitem__)]
    assert by_depth == sorted(by_depth)
    assert max(stage.values()) + 1 >= STAGES[name]
    assert set(stage.values()) == set(range(max(stage.values()) + 1))


def test_the_stages_of_a_resnet_are_its_layers():
    for name, stage in Backbone("resnet18").stage_of().items():
        assert stage == {"layer2": 1, "layer3": 2, "layer4": 3}.get(name.split(".")[1], 0), name


@pytest.mark.parametrize("name", STAGES)
def test_stage_k_trains_the_last_k_stages_and_the_head(make_objective, name):
    model = make_objective("classify", name)
    stage = {f"backbone.{n}": s for n, s in model.backbone.stage_of().items()}
    top = max(stage.values())
    for parameter, rate in apply_to(model, "stage:2").items():
        assert (rate > 0) == (stage.get(parameter, top) > top - 2), parameter


@pytest.mark.parametrize(("choice", "stage"), [("surgical:first", 0), ("surgical:last", -1)])
def test_surgical_tuning_trains_one_stage_and_the_head(make_objective, choice, stage):
    model = make_objective("classify", "test_resnet")
    stages = {f"backbone.{n}": s for n, s in model.backbone.stage_of().items()}
    wanted = stage % (max(stages.values()) + 1)
    for parameter, rate in apply_to(model, choice).items():
        assert (rate > 0) == (stages.get(parameter, wanted) == wanted), parameter


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_bias_and_norm_train_these_and_the_head(make_objective, name):
    for choice in ("bias", "norm"):
        model = make_objective("classify", name)
        owners = dict(model.named_modules())
        found = apply_to(model, choice)
        for parameter, rate in found.items():
            owner, leaf = owners[parameter.rpartition(".")[0]], parameter.rpartition(".")[2]
            norm = isinstance(owner, (nn.BatchNorm2d, nn.LayerNorm)) or "Norm" in type(owner).__name__
            wanted = parameter.startswith("head.") or (leaf == "bias" if choice == "bias" else norm)
            assert (rate > 0) == wanted, (choice, parameter)
        assert any(rate for parameter, rate in found.items() if parameter.startswith("backbone."))


@pytest.mark.parametrize("choice", ["norm", "bias"])
def test_the_affine_weights_of_norms_learn_while_their_statistics_stay(make_objective, make_data, choice):
    model = make_objective("classify", "test_resnet")
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    recipe = Recipe(steps=3, batch=8, tune=choice, batchnorm="frozen", precision="fp32", optim=Optim(lr=0.1))
    fit(model, make_data(model), recipe)
    moved = {k for k, v in model.backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert not any("running" in k or "num_batches" in k for k in moved)
    owners = dict(model.backbone.named_modules())
    assert all(isinstance(owners[k.rpartition(".")[0]], nn.BatchNorm2d) for k in moved)


def test_gradual_unfreezing_begins_with_the_last_stage_and_ends_with_all(make_objective):
    model = make_objective("classify", "test_resnet")
    groups = apply(model, table(model, "gradual"), lr=1.0, weight_decay=0.0)
    begins = {
        name: g["begin"] for g in groups for name, p in model.named_parameters() if any(p is q for q in g["params"])
    }
    stage = {f"backbone.{n}": s for n, s in model.backbone.stage_of().items()}
    top = max(stage.values())
    assert begins["head.weight"] == 0
    for name, s in stage.items():
        assert begins[name] == pytest.approx(0.5 * (top - s) / top, abs=1e-4), name
    assert set(begins) == {n for n, _ in model.named_parameters()}


def test_what_is_unfrozen_later_moves_then_and_not_before(make_objective, make_data):
    model = make_objective("classify", "test_resnet")
    first = model.backbone.net.conv1[0].weight
    seen = {"before": [], "after": []}
    start = first.detach().clone()

    def log(step, metrics):
        if "progress" in metrics:
            seen["before" if metrics["progress"] <= 0.5 else "after"].append(torch.equal(first, start))

    recipe = Recipe(
        steps=8, batch=8, precision="fp32", log_every=1, optim=Optim(lr=0.1, warmup=0.0),
        tune={r"backbone\..*": "0.5 from 0.5", r".*": 1.0},
    )  # fmt: skip
    fit(model, make_data(model), recipe, log=log)
    assert seen["before"] and all(seen["before"])
    assert seen["after"] and not any(seen["after"])


def test_a_run_that_thaws_resumes_to_the_same_weights(make_objective, make_data, tmp_path):
    recipe = Recipe(steps=6, batch=8, precision="fp32", tune="gradual", save_every=1, log_every=1,
                    batchnorm="frozen", optim=Optim(lr=0.05))  # fmt: skip
    whole = make_objective("classify", "test_resnet")
    start = {k: v.clone() for k, v in whole.state_dict().items()}
    fit(whole, make_data(whole), recipe, out=tmp_path / "whole")

    def kill(step, metrics):
        if step == 4:
            raise InterruptedError

    broken = make_objective("classify", "test_resnet")
    broken.load_state_dict(start)
    with pytest.raises(InterruptedError):
        fit(broken, make_data(broken), recipe, out=tmp_path / "broken", log=kill)
    again = make_objective("classify", "test_resnet")
    fit(again, make_data(again), recipe, out=tmp_path / "broken")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())


@pytest.mark.parametrize(
    "value", ["fast", "1 from", "1 from 1", "1 from -0.1", "-1 from 0.2", True, None, "1 until 0.5"]
)
def test_a_rate_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match="has rate"):
        tuning.check({r".*": value})


def test_an_adapter_leaves_the_network_and_trains_the_head(make_objective, make_data):
    model = make_objective("classify", "test_resnet")
    adapt(model.backbone, "lora")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    recipe = Recipe(steps=4, batch=8, precision="fp32", batchnorm="frozen", optim=Optim(lr=0.1))
    fit(model, make_data(model), recipe)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {"head.weight", "head.bias"} <= moved
    assert any(k.startswith("backbone.adapter.") for k in moved)
    assert not any(k.startswith("backbone.net.") for k in moved)


@pytest.mark.parametrize(
    ("name", "loaded", "tune", "rate"),
    [
        ("test_resnet", True, "full", 1e-4),
        ("test_vit", True, {r"head\..*": 1.0, r".*": 0.1}, 1e-4),
        ("test_resnet", False, "full", 1e-3),
        ("test_vit", False, "layerwise", 3e-4),
        ("test_vit", False, "bias", 1e-3),
        ("test_resnet", True, "norm", 1e-3),
        ("test_resnet", True, "probe", 1e-3),
    ],
)
def test_a_recipe_without_a_rate_gets_the_one_that_suits_what_learns(make_objective, name, loaded, tune, rate):
    model = make_objective("classify", name)
    if loaded:
        model.backbone.loaded = replace(model.backbone.loaded, loaded=("conv1.weight",))
    for asked, wanted in ((Optim(), rate), (Optim(lr=0.02), 0.02)):
        found = tuning.groups(copy.deepcopy(model), Recipe(tune=tune, optim=asked))
        assert max(group["lr"] for group in found) == wanted


def test_pretraining_moves_a_trained_network_faster_than_fine_tuning(make_objective):
    model = make_objective("simclr", "test_resnet")
    model.backbone.loaded = replace(model.backbone.loaded, loaded=("conv1.weight",))
    assert {group["lr"] for group in tuning.groups(model, Recipe())} == {3e-4}


def test_an_adapter_on_a_trained_network_learns_at_the_rate_of_what_is_new(make_objective):
    model = make_objective("classify", "test_vit")
    model.backbone.loaded = replace(model.backbone.loaded, loaded=("cls_token",))
    adapt(model.backbone, {"name": "lora", "rank": 2})
    assert {group["lr"] for group in tuning.groups(model, Recipe())} == {1e-3}
