"""Stochastic depth: dealt as timm deals it, on weights that stay, and off wherever nothing learns."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import DropPath

from visionft import kernels, norms, tuning
from visionft.backbone import Backbone
from visionft.droppath import drop_paths
from visionft.errors import ConfigError
from visionft.recipe import Optim, Recipe
from visionft.tasks.classify import Classify
from visionft.train import fit

MODELS = [
    "test_vit",
    "test_vit2",
    "test_resnet",
    "test_convnext",
    "mobilenetv3_small_100",
    "test_byobnet",
    "test_nfnet",
]
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def made(name: str, rate: float) -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone(name, size=32)
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # some branches begin with nothing to say
    drop_paths(backbone, rate)
    return backbone


def rates(net: torch.nn.Module) -> dict[str, float]:
    return {name: m.drop_prob for name, m in net.named_modules() if isinstance(m, DropPath) and m.drop_prob}


@pytest.mark.parametrize("name", MODELS)
def test_a_network_that_exists_becomes_the_one_that_timm_builds(name):
    """The same rates in the same places, and under one seed the very same features, dropped paths and all."""
    ours = made(name, 0.5)
    kwargs = {"img_size": 32} if "vit" in name else {}
    theirs = timm.create_model(name, num_classes=0, drop_path_rate=0.5, **kwargs)
    theirs.load_state_dict(ours.net.state_dict())
    assert rates(ours.net) == rates(theirs)
    dealt = [*rates(ours.net).values()]
    assert dealt == sorted(dealt) and dealt[0] < dealt[-1] <= 0.5
    seen = []
    for net in (ours.net, theirs):
        torch.manual_seed(3)
        seen.append(net.train()(IMAGES))
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_weights_names_and_answers_stay(name):
    plain, ours = made(name, 0.0), made(name, 0.5)
    assert plain.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in plain.state_dict().items())
    assert torch.equal(plain.eval()(IMAGES), ours.eval()(IMAGES))
    assert not torch.equal(plain.train()(IMAGES), ours.train()(IMAGES))


def test_the_head_is_drawn_as_without_it():
    heads = []
    for rate in (0.0, 0.4):
        torch.manual_seed(0)
        heads.append(Classify(Backbone("test_vit", size=32), classes=3, drop_path=rate).head.weight)
    assert torch.equal(*heads)


def dropping(model: torch.nn.Module) -> set[str]:
    return {name for name, m in model.named_modules() if isinstance(m, DropPath) and m.drop_prob and m.training}


def test_frozen_blocks_are_not_skipped():
    model = Classify(made("test_vit", 0.5), classes=3)
    tuning.apply(model, tuning.table(model, "last:2"), lr=1.0, weight_decay=0.0)
    norms.settle(model)
    blocks = dict(model.backbone.net.blocks.named_children())
    alive = [at for at, block in blocks.items() if all(p.requires_grad for p in block.parameters())]
    assert 0 < len(alive) < len(blocks)
    assert dropping(model) == {f"backbone.net.blocks.{at}.drop_path{k}" for at in alive for k in (1, 2)}
    model.train()
    tuning.apply(model, {r"backbone\..*": 0.0, ".*": 1.0}, lr=1.0, weight_decay=0.0)
    norms.settle(model)
    assert dropping(model) == set()


def test_blocks_that_begin_to_learn_begin_to_be_skipped():
    model = Classify(made("test_vit", 0.5), classes=3)
    groups = tuning.apply(model, tuning.table(model, "gradual"), lr=1.0, weight_decay=0.0)
    optimizer = torch.optim.SGD(groups)
    norms.settle(model)
    first = dropping(model)
    tuning.thaw(optimizer, 0.6)
    norms.settle(model)
    assert first and first < dropping(model)
    assert len(dropping(model)) == len(rates(model))


@pytest.mark.parametrize("name", ["vgg11", "densenet121"])
def test_a_network_without_branches_says_so(name):
    class Named:
        pass

    backbone = Named()
    backbone.name = name
    with pytest.raises(ConfigError, match=f"{name} has no branches.*dropout"):
        drop_paths(backbone, 0.1)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_rates_that_make_no_sense_are_refused(rate):
    with pytest.raises(ConfigError, match="drop_path="):
        made("test_vit", rate)


def test_folded_norms_and_skipped_blocks_get_along(make_objective, make_data, monkeypatch):
    """A run whose frozen batch norms are folded trains what one without folding does."""
    told = Recipe(steps=3, batch=8, precision="fp32", batchnorm="frozen", optim=Optim(name="sgd", lr=0.01))
    ends = []
    for folded in (True, False):
        model = make_objective("classify", "test_resnet", drop_path=0.5)
        if not folded:
            monkeypatch.setattr(kernels.Kernels, "fold", lambda *_: 0)
        fit(model, make_data(model), told)
        ends.append(model.state_dict())
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-4, atol=1e-5, msg=key)
