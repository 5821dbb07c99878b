"""scikit-learn finds in our estimators what it expects, and they answer as the rest of the package does."""

from __future__ import annotations

import inspect
import io
import pickle
import sys
import tempfile
from typing import Any

import cv2
import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

import visionft as vf
from tests.conftest import KINDS, SIDE
from visionft.estimator import ImageClassifier, ImageFeatures
from visionft.evaluation.probe import GRID, fit_probe

TINY: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "size": SIDE}
PROBE = {**TINY, "tune": "probe", "precision": "fp32"}


@pytest.fixture(scope="session")
def kinds(labels) -> np.ndarray:
    return np.array(KINDS)[labels]


@pytest.fixture(scope="module")
def fitted(pixels, kinds, tmp_path_factory) -> ImageClassifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ImageClassifier(**PROBE).fit(pixels, kinds)


def drawn(rows: np.ndarray) -> np.ndarray:
    """Tables of numbers as pictures, one row each: a stripe a column, its colours say the number near and far."""
    waves = np.stack([np.sin(rows), np.cos(rows), np.tanh(rows / 4)], axis=-1)
    wide = np.repeat(np.rint(127.5 + 127.5 * waves).astype(np.uint8), max(1, SIDE // rows.shape[1]), axis=1)
    return np.repeat(wide[:, None], SIDE, axis=1)


class Drawn:
    """An estimator that is handed numbers and sees pictures of them."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.three_d_array = tags.input_tags.string = False
        return tags


class RowClassifier(Drawn, ImageClassifier):
    def fit(self, X, y, groups=None):
        rows, y = validate_data(self, X, y)
        return super().fit(drawn(rows), y, groups)

    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(drawn(validate_data(self, X, reset=False)))


class RowFeatures(Drawn, ImageFeatures):
    def fit(self, X, y=None):
        return super().fit(drawn(validate_data(self, X)))

    def transform(self, X):
        return super().transform(drawn(validate_data(self, X, reset=False)))


@pytest.mark.slow
@parametrize_with_checks([RowClassifier(**PROBE), RowFeatures(**TINY)])
def test_scikit_learn_has_no_objection(estimator, check):
    """Its checks feed tables of numbers, which an image estimator refuses; drawn as pictures, all of them apply."""
    check(estimator)


def test_defaults_are_those_of_the_recipe():
    assert ImageClassifier()._recipe(out="x") == vf.Finetune(out="x", decide="likeliest")
    assert ImageClassifier().get_params()["batch"] == vf.Finetune().batch != vf.Recipe().batch
    assert ImageClassifier().get_params()["optim__clip"] == vf.Optim().clip


def test_parameters_reach_the_recipe_whatever_numbers_a_grid_is_made_of():
    lr, steps = np.logspace(-3, -2, 2)[0], np.arange(5, 7)[0]
    made = ImageClassifier(optim__lr=lr, task__smoothing=0.1).set_params(steps=steps, tune={"head": 1.0})._recipe()
    assert made.optim.lr == lr and made.task == {"name": "classify", "smoothing": 0.1} and made.tune == {"head": 1.0}
    assert type(made.optim.lr) is float and type(made.steps) is int  # a run writes them as YAML
    assert made.optim.weight_decay == vf.Finetune().optim.weight_decay


def test_help_lists_every_parameter_with_its_default():
    shown = inspect.signature(ImageClassifier).parameters
    assert next(iter(shown)) == "backbone" and shown["tune"].default == vf.Finetune().tune
    assert not {"data", "test", "optim"} & set(shown)


def test_clones_keep_every_parameter_options_too():
    one = ImageClassifier("test_vit", adapter="lora", adapter__rank=2, optim__lr=1e-3)
    two = clone(one)
    assert two is not one and two.get_params() == one.get_params() and two.get_params()["adapter__rank"] == 2
    two.set_params(adapter__rank=4)
    assert one.adapter__rank == 2


@pytest.mark.parametrize(
    ("typo", "nearest"),
    [("tunee", "tune"), ("optim__lrr", "optim__lr"), ("optim", "optim__lr"), ("weigths", "weights")],
)
def test_a_typo_names_the_nearest_parameter(typo, nearest):
    for mistake in (lambda: ImageClassifier(**{typo: 1}), lambda: ImageClassifier().set_params(**{typo: 1})):
        with pytest.raises(vf.ConfigError, match=f"has no parameter {typo}; did you mean .*{nearest}"):
            mistake()


def test_a_wrong_value_waits_for_fit_and_names_its_key(pixels, kinds):
    for words, said in (({"optim__lr": "fast"}, "optim.lr should be float"), ({"task__smoothin": 1}, "smoothing")):
        with pytest.raises(vf.ConfigError, match=said):
            ImageClassifier(**TINY, **words).fit(pixels, kinds)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((24, 64)), r"shape \(24, 64\).*X.reshape\(-1, height, width\)"),
        ("photos", "one name"),
        ([tempfile.gettempdir()] * 24, "a folder among the images"),
        ([[0.0, 1.0]] * 24, "paths, arrays and Pillow's images, not list"),
        ([np.zeros((8, 8), np.uint8)] * 23, "23 images but 24 labels"),
    ],
)
def test_what_is_no_list_of_images_is_refused_in_words(images, said, kinds):
    with pytest.raises(vf.DataError, match=said):
        ImageClassifier(**PROBE).fit(images, kinds)


def test_an_unfitted_classifier_does_not_answer(pixels):
    with pytest.raises(NotFittedError):
        ImageClassifier(**PROBE).predict(pixels)


def test_labels_come_back_as_they_were_given(fitted, pixels, kinds, labels):
    assert (fitted.predict(pixels) == kinds).all() and fitted.score(pixels, kinds) == 1
    assert [*fitted.classes_] == sorted(KINDS)
    numbers = np.array([10, 9, -2])[labels]  # as text, 10 would come before 9, and -2 first or last
    again = ImageClassifier(**PROBE).fit(pixels, numbers)
    assert [*again.classes_] == [-2, 9, 10] and again.predict(pixels).dtype == numbers.dtype
    assert (again.predict(pixels) == numbers).all()
    assert (again.classes_[again.predict_proba(pixels).argmax(1)] == numbers).all()


def test_a_probe_learns_from_every_image_it_is_given(pixels, kinds):
    """For one of the strengths of L2 the answers are those of a probe of all images; for none, of all but one."""
    noise = np.random.default_rng(0).permutation(kinds)  # what cannot be learnt must be remembered image by image
    z, y = torch.tensor(ImageFeatures(**TINY).transform(pixels)), torch.tensor(np.unique(noise, return_inverse=True)[1])
    said = ImageClassifier(**PROBE).fit(pixels, noise).predict_proba(pixels)

    def nearest(count: int) -> float:
        probes = [fit_probe(z[:count], y[:count], classes=3, l2=l2) for l2 in GRID]
        return min(float(np.abs(probe.probabilities(z).numpy() - said).max()) for probe in probes)

    assert nearest(24) < 0.02 < nearest(23)


def test_files_arrays_and_stacks_of_the_same_pictures_are_answered_alike(fitted, pixels, tmp_path):
    small = np.stack([image[:40, :40] for image in pixels[:6]])
    files = [tmp_path / f"{at}.png" for at in range(6)]
    for file, image in zip(files, small, strict=True):
        assert cv2.imwrite(str(file), image[..., ::-1])
    expected = fitted.predict_proba(small)
    for same in (list(small), files, [str(file) for file in files], np.array([str(file) for file in files])):
        assert np.array_equal(fitted.predict_proba(same), expected)
    gray = small[..., 0]
    assert np.array_equal(fitted.predict_proba(gray), fitted.predict_proba(np.repeat(gray[..., None], 3, axis=3)))


class Listening(pickle.Unpickler):
    """Reads a pickle and notes whose code it asks for."""

    modules: set[str]

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module.partition(".")[0])
        return super().find_class(module, name)


def test_a_pickle_holds_plain_values_and_answers_to_the_last_bit(fitted, pixels, tmp_path):
    listening = Listening(io.BytesIO(pickle.dumps(fitted)))
    listening.modules = set()
    again = listening.load()
    assert not {"torch", "timm"} & listening.modules
    assert np.array_equal(again.predict_proba(pixels), fitted.predict_proba(pixels))
    joblib.dump(fitted, tmp_path / "model.joblib")
    assert (joblib.load(tmp_path / "model.joblib").predict(pixels) == fitted.predict(pixels)).all()


@pytest.mark.parametrize("words", [{"adapter": "prompts", "backbone": "test_vit"}, {"folds": 2}, {"tune": "auto"}])
def test_whatever_was_fitted_survives_pickling(words, pixels, kinds):
    model = ImageClassifier(**{**TINY, **words}, steps=2, batch=8, precision="fp32").fit(pixels, kinds)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(pixels), model.predict_proba(pixels))
    assert len(again.predictor_.networks) == len(model.predictor_.networks) >= words.get("folds", 1)


def test_a_grid_searches_tuning_and_rates_inside_a_pipeline(pixels, kinds):
    grid = {"imageclassifier__tune": ["probe", "last:1"], "imageclassifier__optim__lr": np.array([1e-4, 1e-3])}
    model = make_pipeline(ImageClassifier(**TINY, steps=1, batch=8, precision="fp32"))
    search = GridSearchCV(model, grid, cv=[np.split(np.arange(24), 2)], error_score="raise").fit(pixels, kinds)
    assert search.best_score_ > 0.8 and len(search.cv_results_["params"]) == 4
    assert search.best_estimator_[-1].optim__lr in (1e-4, 1e-3)
    told = cross_val_predict(ImageClassifier(**PROBE), pixels, kinds, cv=3, method="predict_proba")
    assert told.shape == (24, 3) and np.allclose(told.sum(1), 1, atol=1e-5)


def test_groups_are_never_divided(pixels, kinds):
    """Some of every class must lie on each side, which cannot be where a class is one group."""
    ImageClassifier(**PROBE).fit(pixels, kinds, groups=np.arange(24) // 3)
    with pytest.raises(vf.DataError, match="has 1 groups: too few"):
        ImageClassifier(**PROBE).fit(pixels, kinds, groups=kinds)


def test_fitting_leaves_no_files_and_no_trace_in_the_random_numbers(pixels, kinds, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ImageClassifier(**PROBE).fit(pixels, kinds)
    ImageFeatures(**TINY).transform(pixels[:2])
    assert not [*tmp_path.iterdir()] and torch.equal(torch.get_rng_state(), before)


def test_a_run_folder_answers_as_the_classifier_that_wrote_it(pixels, kinds, tmp_path):
    out = tmp_path / "run"
    model = ImageClassifier(**PROBE, out=str(out)).fit(pixels, kinds)
    answers = [[*p.probabilities.values()] for p in vf.load(out).predict(pixels)]
    assert np.array_equal(np.array(answers, np.float32), model.predict_proba(pixels))
    with pytest.raises(vf.ConfigError, match="set out= to another folder"):
        model.fit(pixels, kinds)


def test_features_are_those_of_embed_and_stay_the_same(pixels, kinds, tmp_path):
    net = vf.Backbone("test_resnet", size=SIDE).net
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    words = {**TINY, "weights": str(tmp_path / "weights.pt")}
    assert np.array_equal(ImageFeatures(**words).transform(pixels), vf.embed(pixels, **words, quiet=True)[1])
    random = ImageFeatures(**TINY)
    assert np.array_equal(random.transform(pixels[3:5]), random.transform(pixels)[3:5])
    assert not np.array_equal(random.transform(pixels), ImageFeatures(**TINY, seed=1).transform(pixels))


def test_features_feed_a_pipeline(pixels, kinds):
    model = make_pipeline(ImageFeatures("test_resnet", weights="none", size=SIDE), LogisticRegression(max_iter=1000))
    assert model.fit(pixels, kinds).score(pixels, kinds) == 1


def test_features_do_not_skip_what_cannot_be_read(pixels, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    with pytest.raises(vf.DataError, match=r"broken\.png"):
        ImageFeatures(**TINY).transform([pixels[0], tmp_path / "broken.png"])


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "visionft.estimator")
    with pytest.raises(vf.ConfigError, match=r"visionft\[sklearn\]"):
        vf.ImageClassifier  # noqa: B018  (asking is the point)
