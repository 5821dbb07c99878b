"""visionft: pretrain on unlabeled images, fine-tune on a few labelled ones, through one loop."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        advise,
        augment,
        embed,
        evaluate,
        finetune,
        load,
        lr_find,
        objectives,
        predict,
        pretrain,
        rank,
        rebalance,
        search,
        study,
    )
    from .backbone import Backbone
    from .errors import CheckpointError, ConfigError, DataError, DivergedError, VisionftError, WeightsError
    from .estimator import ImageClassifier, ImageFeatures
    from .fitted import Stop
    from .inspection.inspector import Inspector
    from .journeys.quickstart import quickstart
    from .objective import Objective, View
    from .recipe import Finetune, Optim, Pretrain, Recipe
    from .tasks.predictor import Predictor
    from .train import fit

__version__ = "0.1.0"

_EXPORTS = {
    "augment": "api", "embed": "api", "evaluate": "api", "finetune": "api", "load": "api", "predict": "api",
    "pretrain": "api", "Backbone": "backbone", "CheckpointError": "errors", "ConfigError": "errors",
    "DataError": "errors", "DivergedError": "errors", "VisionftError": "errors", "WeightsError": "errors",
    "Objective": "objective", "View": "objective", "quickstart": "journeys.quickstart", "Finetune": "recipe",
    "Optim": "recipe", "Pretrain": "recipe", "Recipe": "recipe", "Predictor": "tasks.predictor", "Stop": "train",
    "fit": "train", "study": "api", "objectives": "api", "rank": "api", "advise": "api", "rebalance": "api",
    "lr_find": "api", "search": "api", "Inspector": "inspection.inspector",
    "ImageClassifier": "estimator", "ImageFeatures": "estimator",
}  # fmt: skip
__all__ = [
    "Backbone", "CheckpointError", "ConfigError", "DataError", "DivergedError", "Finetune", "Inspector", "Objective",
    "Optim", "Predictor", "Pretrain", "Recipe", "Stop", "View", "VisionftError", "WeightsError", "advise",
    "augment", "embed", "evaluate", "finetune", "fit", "load", "lr_find", "objectives", "predict", "pretrain",
    "quickstart", "rank", "rebalance", "search", "study",
]  # fmt: skip
if importlib.util.find_spec("sklearn"):  # an extra: `from visionft import *` must work without it
    __all__ += ["ImageClassifier", "ImageFeatures"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import visionft` costs milliseconds and not seconds."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'visionft' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
