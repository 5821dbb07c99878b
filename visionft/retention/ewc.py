"""Elastic weight consolidation: weights that old answers depend on are pulled back harder (arXiv:1612.00796)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from visionft.data.views import Views
from visionft.folding import idle
from visionft.kernels import fast_kernels
from visionft.objective import Objective

from .kept import Anchored, held, spread

FEW = 10  # classes up to which the expectation over answers is a sum; of more, one answer is drawn for each image

Directions = Callable[[Tensor, torch.Generator], Tensor]


class EWC(Anchored):
    """weight / 2 * sum of F (w - w0)^2, with the diagonal of the start's Fisher information F, divided by its mean.

    So `weight` means what it means in L2-SP, whatever the network and its answers. The Fisher information is that
    of the classifier which came with the weights, under its own answers as the theory has it (not under labels); of
    weights that brought none, that of the pooled features with noise of unit variance. It is taken on retained images;
    without any on the new ones, which are at least what the old network will be asked to say something about.

    weight: nats of the mean loss per unit of squared distance, as in L2-SP
    count: images of which the information is taken, at most
    """

    def __init__(self, task: Objective, images: Views | None = None, *, weight: float = 0.1, count: int = 128) -> None:
        super().__init__(task)
        self.strength, head = weight, self.backbone.loaded.head
        weights = [*self.backbone.net.parameters()]
        learns = [w.requires_grad for w in weights]
        assert images is not None, "the table of remedies hands over images"

        def answer(image: Tensor) -> Tensor:
            z = self.backbone(image)
            return z if head is None else head(z)  # type: ignore[no-any-return]

        some = (image.to(self.backbone.mean.device) for image in spread(images, count))
        with idle(self.backbone), fast_kernels() as kernels:
            kernels.fold(self.backbone)
            for w in weights:
                w.requires_grad_(True)
            found = fisher(answer, weights, some, noise if head is None else answers)
            for w, learnt in zip(weights, learns, strict=True):
                w.requires_grad_(learnt)
        mean = sum(f.sum() for f in found) / sum(f.numel() for f in found)
        self.aside.fisher = held(f / mean for f in found)

    def importance(self) -> Iterable[Tensor]:
        """The Fisher information, 1 on average."""
        found: Iterable[Tensor] = self.aside.fisher
        return found


def fisher(
    answer: Callable[[Tensor], Tensor], weights: Sequence[Tensor], images: Iterable[Tensor], directions: Directions
) -> list[Tensor]:
    """The diagonal of the Fisher information of each weight, a mean over images (1 C H W each, answers 1 K).

    With J the derivative of the answers and G the information of the answers themselves, it is the diagonal of
    J^T G J: the sum over rows u of `directions`, whose outer products add up to G (in the mean), of (u J)^2.
    """
    generator, total, seen = torch.Generator().manual_seed(0), [torch.zeros_like(w) for w in weights], 0
    for image in images:
        said, seen = answer(image)[0], seen + 1
        for square in _squares(said, directions(said.detach(), generator), weights):
            for t, s in zip(total, square, strict=True):
                t.add_(s)
    return [t / seen for t in total]


def answers(logits: Tensor, generator: torch.Generator) -> Tensor:
    """K -> R K: the directions of a softmax, sqrt(p_y) (e_y - p) for all y; of many classes for one y drawn from p."""
    p = logits.softmax(0)
    gaps = torch.eye(len(p)) - p
    if len(p) <= FEW:
        return p.sqrt()[:, None] * gaps
    return gaps[torch.multinomial(p, 1, generator=generator)]


def noise(features: Tensor, generator: torch.Generator) -> Tensor:
    """D -> 1 D: signs, whose outer product is the identity in the mean."""
    return torch.randint(0, 2, (1, len(features)), generator=generator).float() * 2 - 1


def _squares(said: Tensor, directions: Tensor, weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    for left, u in zip(reversed(range(len(directions))), directions, strict=True):
        found = torch.autograd.grad(said @ u, weights, retain_graph=left > 0, materialize_grads=True)
        yield [g.square() for g in found]
