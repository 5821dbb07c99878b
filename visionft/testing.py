"""The promises that objectives, adapters and scorers keep; authors of their own call these checks in their tests."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .adapters import files
from .adapters.attach import adapt, merged
from .backbone import Backbone
from .data.views import Views
from .errors import ConfigError
from .folding import Norm, idle
from .inspection.scorer import Scorer
from .objective import Objective, View
from .recipe import Finetune, Optim
from .tasks.classify import Classify
from .train import fit


def check_objective(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    """Raise AssertionError unless the objective is finite, deterministic, trainable, complete in its state, and pure.

    One that says that it `divides` must also give a batch the mean loss of its halves, and keep nothing of either.
    `batch` holds what `objective.sees` names, with at least two images, as the data set delivers it.
    """
    objective.train()
    before = {key: value.clone() for key, value in batch.items()}
    twin, resumed = copy.deepcopy(objective), copy.deepcopy(objective)
    if objective.divides:
        check_parts(copy.deepcopy(objective), batch)
    losses = [draw(o, batch, seed=0) for o in (objective, twin)]
    assert torch.equal(*losses), "the same weights, batch and seed must give the same loss"
    assert losses[0].ndim == 0 and losses[0].isfinite(), "`loss` must be one finite number"
    same = batch.keys() == before.keys() and all(_same(batch[key], before[key]) for key in before)
    assert same, "forward must not change its batch"

    losses[0].backward()
    silent = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent, f"no gradient reaches {', '.join(silent)}"
    reached = [p.grad for p in objective.backbone.parameters() if p.grad is not None]
    assert any(g.abs().sum() > 0 for g in reached), "the backbone learns nothing"
    fixed = [n for n, p in objective.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not fixed, f"gradients reach fixed weights: {', '.join(fixed)}"

    objective.after_step(0.5)
    with torch.no_grad():
        for p in resumed.parameters():
            p.add_(1)  # whatever it held must come from the state dict alone
    resumed.load_state_dict(objective.state_dict())
    for progress in (0.6, 0.7):
        later = [draw(o, batch, seed=1) for o in (objective, resumed)]
        assert torch.equal(*later), "state_dict must be complete: a resumed objective gives another loss"
        objective.after_step(progress)
        resumed.after_step(progress)


@torch.no_grad()
def check_parts(objective: Objective, batch: Mapping[str, Tensor]) -> None:
    """Raise AssertionError unless parts of a batch may be computed one by one, and again."""
    norms = {f"{name}.{key}" for name, m in objective.named_modules() if isinstance(m, Norm) for key in m.state_dict()}
    before = {key: value.clone() for key, value in objective.state_dict().items() if key not in norms}
    draw(objective, batch, seed=0)
    after = objective.state_dict()
    traces = [key for key, value in before.items() if not torch.equal(value, after[key])]
    assert not traces, f"it says that it divides, but a forward pass leaves a trace in {', '.join(traces)}"
    objective.eval()  # batch norms and dropout are not its doing
    even = len(next(iter(batch.values()))) // 2 * 2
    halves = [
        {key: value[part] for key, value in batch.items()} for part in (slice(0, even // 2), slice(even // 2, even))
    ]
    whole = draw(objective, {key: value[:even] for key, value in batch.items()}, seed=0)
    parts = [draw(objective, half, seed=0) for half in halves]
    assert torch.allclose(whole, (parts[0] + parts[1]) / 2, rtol=1e-4), "its loss is not the mean of those of its parts"


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, nan (which stands for what is not known) to nan."""
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def draw(objective: Objective, batch: Mapping[str, Tensor], *, seed: int) -> Tensor:
    """The loss under a fixed seed."""
    torch.manual_seed(seed)
    loss: Tensor = objective(batch)["loss"]
    return loss


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
    idle = [name for name in learns if torch.equal(after[name], before[name])]
    assert not idle, f"these weights must learn: {', '.join(idle[:5])}"
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


def check_scorer(make: Callable[[], Scorer], patches: Tensor | None = None) -> None:
    """Raise AssertionError unless a one-class scorer keeps its promises; `make` gives a fresh one with its options.

    The promises: the same good parts in the same order give the same scores, however they are batched and whatever was
    fitted before; leaving out a fold is never to have seen it; images that it was fitted to are held out as if their
    fold, or each of them, had not been there; what is far from all good parts scores higher than they
    do; images are judged one by one; a state brings everything back; one that is `placed` makes others like it for
    tiles. `patches` (B h w D) are of good parts; they are drawn where none are given.
    """
    given = torch.randn(24, 6, 7, 5, generator=torch.Generator().manual_seed(0)) if patches is None else patches
    fold, folds = torch.arange(len(given)) % 4, 4
    before = given.clone()
    scorer = make().fit([(given, fold)], folds)
    again = make().fit([(given[:5], fold[:5]), (given[5:], fold[5:])], folds)
    said = scorer.score(given)
    assert said.shape in (given.shape[:3], (len(given), 1, 1)), f"scores have shape {tuple(said.shape)}"
    assert said.isfinite().all(), "scores must be finite numbers"
    assert torch.equal(given, before), "neither fitting nor scoring may change the patches"
    assert torch.allclose(said, again.score(given), rtol=1e-4, atol=1e-5), "batches of another size fit another scorer"
    again.fit([(given[:12] + 5, fold[:12] % 2)], 2).fit([(given, fold)], folds)
    assert torch.allclose(said, again.score(given), rtol=1e-4, atol=1e-5), "to fit again must be to begin anew"
    alone = torch.cat([scorer.score(one) for one in given.split(1)])
    assert torch.allclose(said, alone, rtol=1e-4, atol=1e-5), "an image's score depends on those beside it"
    far, further = (scorer.score(given + times * given.std()) for times in (100, 200))
    assert far.amin() > said.amax(), "what is far from every good part must score higher than any of them"
    assert (further > far).all(), "what is twice as far must score higher still: scores are never clamped"

    kept = fold != 1
    without = make().fit([(given[kept], fold[kept])], folds)
    held = scorer.score(given[~kept], without=1), without.score(given[~kept])
    assert torch.allclose(*held, rtol=1e-3, atol=1e-4), "leaving a fold out is not the same as never having seen it"

    parts, own = scorer.score_held(given[~kept], 1, whole=False), scorer.score_held(given[~kept], 1, whole=True)
    assert torch.allclose(parts, held[0]), "of tiles, the whole fold must be left out: others are of the same images"
    if not torch.allclose(own, held[0], rtol=1e-3, atol=1e-4):
        rest = [torch.arange(len(given)) != at for at in (~kept).nonzero()[:, 0].tolist()]
        each = torch.cat([make().fit([(given[some], fold[some])], folds).score(given[~some]) for some in rest])
        apart, learnt = ((of - each).abs().mean() for of in (own, said[~kept]))
        assert 3 * apart < learnt, "images held out are scored as if they had been learnt from"
    if scorer.placed:
        _check_part(scorer, given, fold, own)

    state = {name: tensor.clone() for name, tensor in scorer.state().items()}
    back = make().restore(state)
    assert torch.equal(back.score(given), said), "a restored scorer says something else"
    asks: list[Callable[[Scorer], Tensor]] = [
        lambda one: one.score(given, without=2),
        lambda one: one.score_held(given, 2, whole=True),
    ]
    for ask in asks:
        try:
            left = ask(back)
        except KeyError:
            continue  # what was restored need not know of folds
        assert torch.equal(left, ask(scorer)), "a restored scorer leaves out a fold that it does not know"


def _check_part(scorer: Scorer, given: Tensor, fold: Tensor, own: Tensor) -> None:
    """The scorer of an image's only tile is like that of images; `own` is what images of fold 1 score, held out."""
    tile, known = scorer.part(1), torch.zeros_like(fold) if scorer.alone else fold
    assert tile is not scorer, "the scorer of a tile is the scorer that made it, not one like it"
    tile.fit([(given, known)], int(known.max()) + 1)
    same = torch.allclose(tile.score(given), scorer.score(given), rtol=1e-4, atol=1e-5)
    assert same, "the scorer of the only tile says otherwise"
    held = tile.score_held(given[fold == 1], 0 if scorer.alone else 1, whole=True)
    assert torch.allclose(held, own, rtol=1e-3, atol=1e-4), "it leaves out images by themselves, and needs folds to"
