"""The promises that adapters keep."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionft.adapters import files
from visionft.adapters.attach import adapt, merged
from visionft.backbone import Backbone
from visionft.data.views import Views
from visionft.errors import ConfigError
from visionft.folding import idle
from visionft.objective import View
from visionft.recipe import Finetune, Optim
from visionft.tasks.classify import Classify
from visionft.train import fit


def check_adapter(choice: Any, backbone: Backbone, images: Tensor | None = None) -> None:
    """Raise AssertionError unless an adapter keeps its promises in this network, which is left as it is.

    `choice` is what a recipe's `adapter` may be: a name, a mapping with options, `module:function`, or the function.
    The promises: names stay; what is not trained changes nothing, unless its parts say they are not `still`; only its
    own weights and the head learn, evaluations in between change nothing; a copy is on its own; merged weights say the
    same where its parts say that they merge; a saved adapter answers alike to the last bit. `images` are uint8 B C H W;
    they are drawn where none are given.
    """
    seen = _drawn(backbone) if images is None else images
    plain = copy.deepcopy(backbone).eval().to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    _stir(plain)  # else a zero somewhere in a fresh network hides what an adapter does
    adapted = copy.deepcopy(plain)
    adapt(adapted, choice)
    _begins(plain, adapted, seen)
    _is_on_its_own_when_copied(adapted, seen)
    model = Classify(adapted, classes=2)
    _learns(model, seen)
    _merges(plain, adapted, seen)
    _reloads(plain, model, seen)


def _begins(plain: Backbone, adapted: Backbone, images: Tensor) -> None:
    state = adapted.net.state_dict()
    assert state.keys() == plain.net.state_dict().keys(), "an adapter must leave the network's names as timm has them"
    base = copy.deepcopy(plain)
    base.net.load_state_dict(state)  # a base in codes holds weights that are a little off
    before = _answer(adapted, images)
    assert torch.equal(before, _answer(adapted, images)), "answers must repeat"
    if all(part.still for part in adapted.adapter.parts().values()):
        torch.testing.assert_close(before, _answer(base, images), msg="what has not learnt must change nothing")
    _stir(adapted.adapter)
    assert not torch.allclose(_answer(adapted, images), before, atol=1e-4), "what the adapter learns changes nothing"


def _is_on_its_own_when_copied(adapted: Backbone, images: Tensor) -> None:
    twin = copy.deepcopy(adapted)
    before, moved = _answer(twin, images), copy.deepcopy(adapted.adapter.state_dict())
    _stir(adapted.adapter)
    assert torch.equal(_answer(twin, images), before), "a copy must not change with the adapter it was made from"
    adapted.adapter.load_state_dict(moved)
    _stir(twin.adapter)
    assert not torch.equal(_answer(twin, images), before), "a copy must answer through its own adapter"


def _learns(model: Classify, images: Tensor) -> None:
    twin, net, adapter = copy.deepcopy(model), model.backbone.net, model.backbone.adapter
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    answers: list[Tensor] = []

    def evaluate(model: Classify) -> dict[str, float]:
        answers.extend(_answer(model.backbone, images) for _ in range(2))
        return {}

    for one, watch in ((model, evaluate), (twin, None)):
        _fit(one, images, watch)
    after = model.state_dict()
    base = {f"backbone.net.{name}" for name in net.state_dict()}
    moved = sorted(name for name in base if not torch.equal(after[name], before[name]))
    assert not moved, f"the network's own weights and buffers must stay: {', '.join(moved[:5])} moved"
    learns = [f"backbone.adapter.{name}" for name, _ in adapter.named_parameters()] + ["head.weight", "head.bias"]
    silent = [name for name in learns if torch.equal(after[name], before[name])]
    assert not silent, f"these weights must learn: {', '.join(silent[:5])}"
    assert all(torch.equal(*pair) for pair in zip(answers[::2], answers[1::2], strict=True)), "answers must repeat"
    other = twin.state_dict()
    changed = [name for name in after if not torch.equal(after[name], other[name])]
    assert not changed, f"evaluations must not change what is learnt: {', '.join(changed[:5])} differ"


def _merges(plain: Backbone, adapted: Backbone, images: Tensor) -> None:
    if not adapted.adapter.merges:
        try:
            merged(adapted.net)
        except ConfigError:
            return
        raise AssertionError("parts that do not merge must refuse to")
    whole, said = copy.deepcopy(plain), _answer(adapted, images)
    whole.net.load_state_dict(merged(adapted.net))
    off = float((_answer(whole, images) - said).abs().max() / said.abs().max())
    assert off <= 1e-5, f"merged weights must say the same; they are off by {off:.1e} of the largest feature"


def _reloads(plain: Backbone, model: Classify, images: Tensor) -> None:
    adapted, again = model.backbone, copy.deepcopy(plain)
    with torch.no_grad():
        adapted.train()(images)  # batch norms that moved belong to the answer
    with tempfile.TemporaryDirectory() as folder:
        files.save(Path(folder), adapted.net, adapted.adapter, model.head)
        again.adapter, head = files.load(Path(folder), again.net)
    again.to(memory_format=torch.channels_last)
    said = [_answer(one.requires_grad_(False), images) for one in (adapted, again)]  # which torch's matmul looks at
    assert torch.equal(*said), "a saved adapter must answer alike to the last bit; does its state hold all it knows?"
    assert all(torch.equal(head[name], tensor) for name, tensor in model.head.state_dict().items()), "the head differs"


def _fit(model: Classify, images: Tensor, evaluate: Any) -> None:
    size = images.shape[-1]
    recipe = Finetune(
        size=size, channels=images.shape[1], batch=len(images), steps=3, eval_every=1, patience=0, precision="fp32",
        tune="full", optim=Optim(lr=0.01, weight_decay=0.0, warmup=0.0),
    )  # fmt: skip
    pixels, labels = [*images.permute(0, 2, 3, 1).numpy()], np.arange(len(images)) % 2
    data = Views(pixels, {"image": View("none")}, {"image": size}, labels=labels, channels=images.shape[1])
    fit(model, data, recipe, evaluate=evaluate)


def _drawn(backbone: Backbone) -> Tensor:
    side = backbone.side(backbone.size or 64)
    return torch.randint(
        0, 256, (4, backbone.channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@torch.no_grad()
def _stir(module: nn.Module) -> None:
    for p in module.parameters():
        p.add_(torch.randn_like(p), alpha=0.05)


@torch.no_grad()
def _answer(backbone: Backbone, images: Tensor) -> Tensor:
    with idle(backbone):
        features: Tensor = backbone(images)
    return features
