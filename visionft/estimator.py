"""The scikit-learn face: an image classifier and frozen features that clone, pickle, search grids and sit in pipelines.

`X` is images: a list of paths or of arrays (H W or H W C, each of its own size), or one array N H W or N H W C. They
have no fixed number of features, so there is no `n_features_in_`.
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import safetensors.torch
import torch

from . import api, checkpoint, config, runs
from .data.prepare import prepare
from .data.records import Table
from .data.sources import read
from .errors import ConfigError, DataError
from .evaluation.decision import Decision
from .journeys.ladder import NAMES, climb
from .log import Console
from .recipe import Finetune
from .tasks.networks import assemble
from .tasks.predictor import Predictor
from .tasks.run import finetune
from .verbs import Embed

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d
except ImportError as error:
    way = 'pip install "visionft[sklearn]"'
    raise ConfigError(f"ImageClassifier and ImageFeatures need scikit-learn 1.6 or newer: {way}") from error


def _leaves(of: type) -> dict[str, Any]:
    """Every key of a recipe with its default; `optim.lr` is `optim__lr`."""
    found: dict[str, Any] = {}
    for name, value in vars(of()).items():
        nested = vars(value) if dataclasses.is_dataclass(value) else {}
        found |= {f"{name}__{key}": inner for key, inner in nested.items()} or {name: value}
    return found


def constructor(of: type, *, without: Collection[str], **own: Any) -> Callable[..., None]:
    """An `__init__` that takes the keys of a recipe as keywords, dots written `__`, and `own` ones; it only stores.

    `help()` and scikit-learn see every key with the recipe's default. Options of what a key names (`task__smoothing`)
    are taken, too.
    """
    given = {name: value for name, value in _leaves(of).items() if name not in without} | own

    def __init__(self: Any, backbone: str = given["backbone"], **keys: Any) -> None:  # noqa: N807  (it becomes one)
        self.__dict__.update(given, backbone=backbone)
        self.set_params(**keys)

    kinds = inspect.Parameter
    first = [kinds("self", kinds.POSITIONAL_OR_KEYWORD)]
    first += [kinds("backbone", kinds.POSITIONAL_OR_KEYWORD, default=given["backbone"])]
    keys = [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in given.items() if name != "backbone"]
    __init__.__signature__ = inspect.Signature([*first, *keys])  # type: ignore[attr-defined]
    return __init__


class Keyed(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator whose parameters are the keys of a recipe."""

    recipe: ClassVar[type]
    own: ClassVar[Collection[str]] = ()  # parameters that are no keys of the recipe

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every parameter with its value, the options that were given among them."""
        given: dict[str, Any] = super().get_params(deep)
        return given | {name: value for name, value in vars(self).items() if self._option(name)}

    def set_params(self, **params: Any) -> Self:
        """Change parameters, as grid searches do; ConfigError names the nearest when there is no such one."""
        known = super().get_params()
        for name in params:
            if name not in known and not self._option(name):
                raise ConfigError(f"{type(self).__name__} has no parameter {name}{config.suggest(name, known)}")
        self.__dict__.update(params)
        return self

    def _option(self, name: str) -> bool:
        """Whether a name is an option of what another parameter names, as `task__smoothing` is."""
        head, _, tail = name.partition("__")
        fields = {f.name: f for f in dataclasses.fields(self.recipe)}
        return bool(tail) and head in fields and bool(fields[head].metadata.get("options"))

    def _recipe(self, **more: Any) -> Any:
        """The recipe that the parameters make, and more of its keys. Raises ConfigError for a wrong value."""
        words = {n.replace("__", "."): _plain(v) for n, v in self.get_params(deep=False).items() if n not in self.own}
        return config.load(self.recipe, {**words, **more})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.three_d_array = tags.input_tags.string = True
        return tags


class ImageClassifier(ClassifierMixin, Keyed):  # type: ignore[misc]
    """`visionft finetune` as a classifier: `ImageClassifier("resnet18", tune="probe").fit(X, y).predict(X)`.

    Parameters are the keys of `visionft finetune --help` with their defaults, dots written `__`:
    `optim__lr=1e-4`, `adapter="lora"`, `adapter__rank=8`, `task__smoothing=0.1`. Three differ: `out=None` keeps no run
    folder (one takes one fit: say `out` for the last one, and `vf.load(out)` reads it), `decide="likeliest"` makes
    `predict` the largest of `predict_proba`, as scikit-learn promises, and `verbose=True` says what happens.
    There is no test share: hold images out as scikit-learn does. The share `val` of what `fit` is given ends a training
    and chooses its best step; tune="probe" and `refit=True` learn from it, too.

    classes_: the sorted distinct labels; the columns of `predict_proba`
    predictor_: the fitted `vf.Predictor`
    info_: what run.json says of the run
    """

    recipe, own = Finetune, ("out", "verbose")
    __init__ = constructor(Finetune, without=("data", "test", "by_group"), out=None, decide="likeliest", verbose=False)

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn labels y (strings, integers or booleans) of images X; a group (a part, a patient) is never divided.

        Raises ConfigError for a parameter, DataError for images or labels that cannot be used.
        """
        classes, table = _labelled(X, y, groups)
        console = Console(quiet=not self.verbose)
        with tempfile.TemporaryDirectory() as beside, _own_random_numbers():
            kept = {"out": self.out or beside, "report": self.report and self.out is not None}
            made = self._recipe(**kept, test=0, by_group=groups is not None)
            ready = prepare(dataclasses.replace(made, data=table), console, labelled=True)
            made = dataclasses.replace(made, data=f"{len(table)} images")
            run = climb if made.tune in NAMES else finetune
            self.predictor_ = run(made, console=console, prepared=ready).predictor
            self.info_ = runs.info(Path(made.out))
        self.classes_ = classes
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The label of every image, N: the likeliest, unless `decide` says otherwise."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[self.predictor_.decision.choose(probabilities)])

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of every image, N C float32."""
        check_is_fitted(self)
        pixels = self.predictor_.decode(_table(X))
        return self.predictor_.probabilities(pixels).numpy()

    def __getstate__(self) -> dict[str, Any]:
        """Plain values, and weights as the bytes of safetensors files: no network is pickled."""
        state = dict(super().__getstate__())
        if fitted := state.pop("predictor_", None):
            states = (checkpoint.savable(network.state_dict()) for network in fitted.networks)
            state["_weights"] = [safetensors.torch.save(tensors) for tensors in states]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        plain = dict(state)
        weights = plain.pop("_weights", None)
        super().__setstate__(plain)
        if weights is not None:
            info, load = self.info_, safetensors.torch.load
            networks = [assemble(info, load(data), "a pickled estimator") for data in weights]
            self.predictor_ = Predictor(networks, info["classes"], info["images"], Decision.of(info["decision"]))


class ImageFeatures(TransformerMixin, Keyed):  # type: ignore[misc]
    """Frozen features as a transformer: `make_pipeline(ImageFeatures("resnet18"), LogisticRegression())`.

    Parameters are the keys of `visionft embed --help`; `seed` draws the weights when they are random
    (`weights="none"`). Features are computed once and cached by weights and content.
    """

    recipe, own = Embed, ("seed", "verbose")
    __init__ = constructor(Embed, without=("data", "out", "bad"), seed=0, verbose=False)

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Nothing: the features are frozen."""
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features of every image, N D float32. Raises DataError naming what cannot be read."""
        made = self._recipe(data=_table(X), bad="error")
        with _own_random_numbers():
            torch.manual_seed(self.seed)
            return api.embed(made, quiet=not self.verbose)[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit, tags.transformer_tags.preserves_dtype = False, []  # float32, whatever the images are
        return tags


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value  # grids are often NumPy's


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Leave the caller's stream of random numbers where it was; each is drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        yield


def _table(X: Any) -> Table:
    """A record for each image. Raises DataError for a table of numbers, a single name, or folders."""
    if isinstance(X, str | Path):
        raise DataError(f"X is one name, {X}; give a list of paths, e.g. sorted(Path(folder).rglob('*.png'))")
    if getattr(X, "ndim", 3) not in (1, 3, 4):
        raise DataError(
            f"X has shape {X.shape}, but images are wanted: a list of paths or of arrays H W (C), or one array "
            "N H W (C); rows of pixels become images by X.reshape(-1, height, width)"
        )
    images = list(X)
    if folders := [image for image in images if isinstance(image, str | Path) and Path(image).expanduser().is_dir()]:
        raise DataError(f"X has a folder among the images, {folders[0]}; list the files in it")
    return read(images, labelled=False)


def _labelled(X: Any, y: Any, groups: Any) -> tuple[np.ndarray, Table]:
    """The sorted classes, and a table of images whose labels are places among them."""
    images = [record.image for record in _table(X)]
    classes, codes = _encoded(y)
    parts = None if groups is None else [str(group) for group in groups]
    table = Table.of(images, codes.tolist(), parts, classes=[str(name) for name in classes], source="X")
    if len(classes) < 2:
        raise DataError(f"y has only one class, {classes[0]}; to tell classes apart it takes two or more")
    return classes, table


def _encoded(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels as scikit-learn reads them: the distinct ones, sorted, and the place of each among them."""
    if y is None:
        raise DataError("ImageClassifier requires y to be passed, but the target y is None")
    values = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
    check_classification_targets(values)
    return np.unique(values, return_inverse=True)
