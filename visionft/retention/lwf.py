"""Learning without forgetting: what the start said of the new images is kept (arXiv:1606.09282)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from visionft.data.views import Views
from visionft.objective import Objective

from .kept import Kept, Passes
from .start import Start, What


class LwF(Kept):
    """The start, frozen, looks at the same changed images; needs no old image. The old classifier stays as it was.

    weight: of the distance from what the start says, beside the task's loss
    what: answers of the classifier that came with the weights, or pooled features; auto: answers where there are any
    temperature: at which answers are compared
    """

    moves = False

    def __init__(
        self,
        task: Objective,
        images: Views | None = None,
        *,
        weight: float = 1.0,
        what: What = "auto",
        temperature: float = 2.0,
    ) -> None:
        super().__init__(task)
        self.strength = weight
        self.aside.start = Start(self.backbone, what, temperature)

    def penalty(self, batch: Mapping[str, Tensor], passes: Passes) -> Tensor:
        """0 at the start, as long as batch norms keep their statistics."""
        images, z = passes[0] if passes else (batch["image"], self.backbone(batch["image"]))
        return self.strength * self.aside.start.distance(images, z)  # type: ignore[no-any-return]
