"""Do deep features follow from shallow ones, as in good parts? A student and its teacher (arXiv:2103.04257)."""

from __future__ import annotations

from torch import Tensor

from visionft.errors import ConfigError

from .foretold import Foretold


class Student(Foretold):
    """A student that knows good parts alone foretells a backbone's last features from its first, place by place.

    The teacher knows more than good parts: where they disagree, something lies that good parts do not have. The student
    is a ridge regression, where STFPM (arXiv:2103.04257) and EfficientAD (arXiv:2303.14535) train networks.

    sees: share of a patch's features, the finest first, that the student sees; .3 of three layers of a network that
        widens on its way are less than the first two
    ridge: share of the variance of what it sees that is added to it
    """

    def __init__(self, *, sees: float = 0.3, ridge: float = 0.01) -> None:
        if not 0 < sees < 1:
            raise ConfigError(f"sees={sees} lies between 0 and 1: what a student does not see, it foretells")
        super().__init__(ridge=ridge)
        self.sees = sees

    def told(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """B h w D -> the finer features, and the others."""
        first = min(max(1, round(self.sees * patches.shape[3])), patches.shape[3] - 1)
        return patches[..., :first], patches[..., first:]
