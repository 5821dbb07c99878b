"""The promises that one-class scorers keep."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from visionft.inspection.scorer import Scorer


def check_scorer(make: Callable[[], Scorer], patches: Tensor | None = None) -> None:
    """Raise AssertionError unless a one-class scorer keeps its promises; `make` gives a fresh one with its options.

    The promises: the same good parts in the same order give the same scores, however they are batched and whatever was
    fitted before; leaving out a fold is never to have seen it; images that it was fitted to are held out as if their
    fold, or each of them, had not been there; what is far from all good parts scores higher than they do; images are
    judged one by one; a state brings everything back; one that is `placed` makes others like it for
    tiles. `patches` (B h w D) are of good parts; they are drawn where none are given.
    """
    given = torch.randn(24, 6, 7, 5, generator=torch.Generator().manual_seed(0)) if patches is None else patches
    fold, folds = torch.arange(len(given)) % 4, 4
    before = given.clone()
    scorer = make().fit([(given, fold)], folds)
    said = scorer.score(given)
    assert said.shape in (given.shape[:3], (len(given), 1, 1)), f"scores have shape {tuple(said.shape)}"
    assert said.isfinite().all(), "scores must be finite numbers"
    assert torch.equal(given, before), "neither fitting nor scoring may change the patches"
    _fits_alike(make(), given, fold, folds, said)
    alone = torch.cat([scorer.score(one) for one in given.split(1)])
    assert torch.allclose(said, alone, rtol=1e-4, atol=1e-5), "an image's score depends on those beside it"
    _ranks(scorer, given, said)
    _leaves_out(make, scorer, given, fold, folds)
    if scorer.placed:
        _parts(scorer, given, fold)
    _comes_back(make(), scorer, given)


def _fits_alike(again: Scorer, given: Tensor, fold: Tensor, folds: int, said: Tensor) -> None:
    again.fit([(given[:5], fold[:5]), (given[5:], fold[5:])], folds)
    assert torch.allclose(said, again.score(given), rtol=1e-4, atol=1e-5), "batches of another size fit another scorer"
    again.fit([(given[:12] + 5, fold[:12] % 2)], 2).fit([(given, fold)], folds)
    assert torch.allclose(said, again.score(given), rtol=1e-4, atol=1e-5), "to fit again must be to begin anew"


def _ranks(scorer: Scorer, given: Tensor, said: Tensor) -> None:
    far, further = (scorer.score(given + times * given.std()) for times in (100, 200))
    assert far.amin() > said.amax(), "what is far from every good part must score higher than any of them"
    assert (further > far).all(), "what is twice as far must score higher still: scores are never clamped"


def _leaves_out(make: Callable[[], Scorer], scorer: Scorer, given: Tensor, fold: Tensor, folds: int) -> None:
    kept = fold != 1
    without = make().fit([(given[kept], fold[kept])], folds).score(given[~kept])
    held = scorer.score(given[~kept], without=1)
    assert torch.allclose(held, without, rtol=1e-3, atol=1e-4), "leaving a fold out is not never having seen it"
    parts, own = (scorer.score_held(given[~kept], 1, whole=whole) for whole in (False, True))
    assert torch.allclose(parts, held), "of tiles, the whole fold must be left out: others are of the same images"
    if not torch.allclose(own, held, rtol=1e-3, atol=1e-4):
        rest = [torch.arange(len(given)) != at for at in (~kept).nonzero()[:, 0].tolist()]
        each = torch.cat([make().fit([(given[some], fold[some])], folds).score(given[~some]) for some in rest])
        apart, learnt = ((of - each).abs().mean() for of in (own, scorer.score(given[~kept])))
        assert 3 * apart < learnt, "images held out are scored as if they had been learnt from"


def _parts(scorer: Scorer, given: Tensor, fold: Tensor) -> None:
    """The scorer of an image's only tile is like that of images."""
    tile, known = scorer.part(1), torch.zeros_like(fold) if scorer.alone else fold
    assert tile is not scorer, "the scorer of a tile is the scorer that made it, not one like it"
    tile.fit([(given, known)], int(known.max()) + 1)
    same = torch.allclose(tile.score(given), scorer.score(given), rtol=1e-4, atol=1e-5)
    assert same, "the scorer of the only tile says otherwise"
    held = tile.score_held(given[fold == 1], 0 if scorer.alone else 1, whole=True)
    own = scorer.score_held(given[fold == 1], 1, whole=True)
    assert torch.allclose(held, own, rtol=1e-3, atol=1e-4), "it leaves out images by themselves, and needs folds to"


def _comes_back(back: Scorer, scorer: Scorer, given: Tensor) -> None:
    back.restore({name: tensor.clone() for name, tensor in scorer.state().items()})
    assert torch.equal(back.score(given), scorer.score(given)), "a restored scorer says something else"
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
