"""The probe is scikit-learn's logistic regression, in raw feature space, with a penalty that cross-validation chose."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from visionft.errors import DataError
from visionft.evaluation.folds import fold_of
from visionft.evaluation.probe import FALLBACK, GRID, fit_probe


def blobs(n, dim, classes, *, noise=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, dim, generator=generator)
    scale, shift = 10 ** torch.randn(dim, generator=generator), 5 * torch.randn(dim, generator=generator)
    return (centres[labels] + noise * torch.randn(n, dim, generator=generator)) * scale + shift, labels


def in_one_scale(features):
    centred = features.double() - features.double().mean(dim=0)
    return centred / centred.square().mean().sqrt()


@pytest.mark.parametrize(("n", "dim"), [(300, 20), (60, 100)])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_the_probe_is_scikit_learns_logistic_regression(n, dim, classes, l2):
    features, labels = blobs(n, dim, classes)
    ours = fit_probe(features, labels, classes=classes, l2=l2)
    strength = (2 if classes == 2 else 1) / (l2 * n)
    scaled = in_one_scale(features)
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(scaled, labels)
    np.testing.assert_allclose(ours.probabilities(features), theirs.predict_proba(scaled), atol=3e-5)


def test_its_weights_initialise_a_linear_head_exactly():
    features, labels = blobs(100, 8, 3)
    probe = fit_probe(features, labels, classes=3, l2=0.1)
    head = nn.Linear(8, 3)
    head.load_state_dict({"weight": probe.weight, "bias": probe.bias})
    assert torch.equal(head(features), probe.logits(features))


def test_the_scale_of_all_features_and_the_offset_of_each_do_not_matter():
    features, labels = blobs(120, 6, 3)
    moved = 50 * features + torch.tensor([1e2, -3.0, 50.0, 0.0, 7.0, 1e3])
    first, second = (fit_probe(x, labels, classes=3, l2=0.1).probabilities(x) for x in (features, moved))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_a_feature_that_hardly_varies_among_few_labels_does_not_drown_the_others():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2000) % 2
    useful = 2 * labels[:, None] - 1 + 0.3 * torch.randn(2000, 4, generator=generator)
    rare = torch.rand(2000, 500, generator=generator)
    features = torch.cat([useful, torch.where(rare < 0.05, 3 * rare / 0.05, rare * 1e-3)], dim=1)
    few = fit_probe(features[:20], labels[:20], classes=2)
    assert (few.logits(features[20:]).argmax(dim=1) == labels[20:]).float().mean() > 0.98


def test_noisy_labels_choose_a_stronger_penalty_than_clean_ones():
    features, labels = blobs(400, 30, 2, noise=0.5)
    coins = torch.randint(2, (400,), generator=torch.Generator().manual_seed(1))
    clean, noisy = (fit_probe(features, y, classes=2) for y in (labels, coins))
    assert noisy.l2 == max(GRID)
    assert clean.l2 < noisy.l2
    assert noisy.l2 == min(noisy.cv, key=noisy.cv.__getitem__)


def test_the_cross_validated_log_loss_is_that_of_cold_fits_on_each_fold():
    features, labels = blobs(200, 10, 3)
    features = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    probe, fold = fit_probe(features, labels, classes=3, folds=5, seed=4), fold_of(labels, 5, 4)
    total = 0.0
    for f in range(5):
        model = LogisticRegression(C=1 / (probe.l2 * int((fold != f).sum())), tol=1e-6, max_iter=1000)
        p = model.fit(features[fold != f], labels[fold != f]).predict_proba(features[fold == f])
        total -= np.log(p[np.arange(len(p)), labels[fold == f]]).sum()
    assert probe.cv[probe.l2] == pytest.approx(total / 200, abs=1e-3)


def test_held_out_answers_are_those_of_cold_fits_on_the_other_folds():
    features, labels = blobs(120, 10, 3)
    labels = torch.cat([2 * labels, torch.tensor([1])])  # class 3 has no sample, class 1 an only one
    features = torch.cat([features, features[:1] + 0.01])
    probe, fold = fit_probe(features, labels, classes=5, seed=2), fold_of(labels, 4, 2)
    assert probe.held[-1].isnan().all() and probe.held.shape == (121, 5)
    for f in range(4):
        out, rest = fold == f, fold != f
        cold = fit_probe(features[rest], labels[rest], classes=5, l2=probe.l2)
        assert len(cold.held) == 0
        torch.testing.assert_close(probe.held[out], cold.probabilities(features[out]), atol=0.02, rtol=0)
    told = -probe.held[torch.arange(120), labels[:120]].log().mean()
    assert told.item() == pytest.approx(probe.cv[probe.l2], abs=0.02)


def test_folds_hold_equal_shares_of_each_class_and_never_its_only_sample():
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 2 + [3])
    fold = fold_of(labels, 4, seed=0)
    shares = torch.stack([labels[fold == f].bincount(minlength=4) for f in range(4)])
    assert (shares.max(dim=0).values - shares.min(dim=0).values <= 1).all()
    assert fold[labels == 3].tolist() == [-1]
    assert all(labels[fold != f].unique().tolist() == [0, 1, 2, 3] for f in range(4))


def test_constant_features_are_silent():
    features, labels = blobs(80, 5, 2)
    padded = torch.cat([features, torch.full((80, 2), 0.1)], dim=1)
    probe = fit_probe(padded, labels, classes=2, l2=0.1)
    torch.testing.assert_close(probe.weight[:, 5:], torch.zeros(2, 2))
    torch.testing.assert_close(
        probe.logits(padded), fit_probe(features, labels, classes=2, l2=0.1).logits(features), atol=1e-3, rtol=1e-3
    )


def test_a_class_without_samples_is_never_predicted():
    features, labels = blobs(90, 12, 3)
    probe = fit_probe(features, labels * 2, classes=6)  # 1, 3 and 5 are unseen
    seen = fit_probe(features, labels, classes=3, l2=probe.l2)
    far = 100 * torch.randn(1000, 12, generator=torch.Generator().manual_seed(0))
    assert set(probe.logits(torch.cat([features, far])).argmax(dim=1).tolist()) <= {0, 2, 4}
    torch.testing.assert_close(probe.logits(features)[:, ::2], seen.logits(features), atol=1e-3, rtol=1e-3)
    assert probe.probabilities(features)[:, 1::2].max() < 0.05


def test_one_sample_of_each_class_still_makes_a_probe():
    features, labels = blobs(4, 16, 4)
    probe = fit_probe(features, labels, classes=4)
    assert (probe.l2, probe.cv) == (FALLBACK, {})
    assert torch.equal(probe.logits(features).argmax(dim=1), labels)


def test_a_rare_class_does_not_stop_cross_validation():
    features, labels = blobs(101, 16, 2)
    labels[100] = 2
    probe = fit_probe(features, labels, classes=3)
    assert probe.cv
    assert probe.probabilities(features).isfinite().all()


def test_the_same_seed_gives_the_same_probe_with_or_without_gradients():
    features, labels = blobs(60, 10, 2)
    first = fit_probe(features, labels, classes=2)
    with torch.inference_mode():
        second = fit_probe(features * 1, labels * 1, classes=2)
    assert torch.equal(first.weight, second.weight.clone())
    assert dataclasses.replace(first, weight=None, bias=None) == dataclasses.replace(second, weight=None, bias=None)


@pytest.mark.parametrize(
    ("labels", "features", "says"),
    [
        ([0, 0, 0], torch.randn(3, 2), "at least two classes"),
        ([0, 1, 7], torch.randn(3, 2), "labels run from 0 to 7; 3 classes allow 0 to 2"),
        ([0, 1, -1], torch.randn(3, 2), "labels run from -1"),
        ([0, 1, 1], torch.tensor([[0.0, 1], [1, 2], [torch.nan, 1]]), "the first is sample 2"),
        ([0, 1], torch.randn(3, 2), r"not \[3, 2\] and \[2\]"),
    ],
)
def test_unusable_features_and_labels_are_named(labels, features, says):
    with pytest.raises(DataError, match=says):
        fit_probe(features, torch.tensor(labels), classes=3)
