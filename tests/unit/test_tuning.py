"""An ordered table says what learns and how fast; what is frozen does not move by one bit."""

from __future__ import annotations

import itertools
import re
import warnings

import pytest
import torch
from torch import nn

from visionft import optim, tuning
from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.recipe import Optim, Recipe
from visionft.tasks.classify import Classify
from visionft.train import fit
from visionft.tuning import apply, describe, settle, table


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


@pytest.mark.parametrize("choice", ["fulll", "last", "last:x", "layerwise:x", "layerwise:-1", "probe:3"])
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
