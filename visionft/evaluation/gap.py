"""Has the network learnt, or learnt by heart? Training images beside validation images, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .intervals import difference

LONGER = "it was still getting better when it ended, so a longer run (epochs=, minutes=) may help"
REMEDIES = "stronger augmentation (policy=), fewer learning layers (tune=last:2) or more labels may narrow it"


@dataclass(frozen=True)
class Course:
    """How a run went, as far as a verdict needs to know."""

    train: tuple[float, int]  # accuracy of the kept weights on training images without augmentation, how many
    val: tuple[float, int]  # and on validation images
    losses: Sequence[tuple[int, float]] = ()  # step and validation loss, in order
    kept: int = 0  # the step whose weights were kept

    @property
    def gap(self) -> tuple[float, float, float]:
        """Training less validation accuracy, and its 95 % interval."""
        return difference(*self.train, *self.val)

    @property
    def rising(self) -> bool:
        """Whether the validation loss was best at the end, and better than in the evaluation before."""
        return len(self.losses) > 1 and min(self.losses, key=lambda at: at[1]) == self.losses[-1]

    @property
    def idle(self) -> bool:
        """Whether no step of training was better than the start, which was evaluated, too."""
        return self.kept == 0 and len(self.losses) > 1 and self.losses[0][0] == 0


def verdict(course: Course) -> str:
    """Say in plain words what the gap between training and validation images means, and what may help.

    A gap counts when its 95 % interval lies above zero. Validation images have chosen the weights that were kept,
    which flatters them a little, so that a gap that is seen is there.
    """
    gap, low, high = course.gap
    interval = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} points"
    told = f"training images {course.train[0]:.3f} right, validation images {course.val[0]:.3f} ({interval})"
    if course.idle:
        return (
            f"Training did not improve on its start, whose weights were kept: {told}. A smaller rate (optim.lr=) or "
            f"fewer learning layers may; or frozen features are as good as it gets with these labels."
        )
    if low > 0:
        size = "learnt by heart" if course.train[0] >= 1 - gap / 4 else "learnt in part by heart"
        end = f"; still, {LONGER}" if course.rising else f"; {_turned(course)}{REMEDIES}"
        return f"The training images are {size}: {told}{end}."
    if course.rising:
        return f"No gap that can be told: {told}, and {LONGER}."
    if not course.losses:
        return f"No gap that can be told: {told}."
    return (
        f"No gap that can be told: {told}; and the validation loss was best before the end. Neither longer training "
        f"nor stronger augmentation is called for; larger images (size=), another backbone or more labels may help."
    )


def _turned(course: Course) -> str:
    turned = course.losses and course.kept and course.kept < course.losses[-1][0]
    return f"the validation loss was best at step {course.kept}, whose weights were kept; " if turned else ""
