"""Nearest neighbours equal scikit-learn's by plain vote and lightly's by weighted vote."""

import pytest
import torch
import torch.nn.functional as F
from lightly.utils.benchmarking.knn import knn_predict
from sklearn.neighbors import KNeighborsClassifier

from visionft.errors import DataError
from visionft.evaluation import knn as module
from visionft.evaluation.knn import knn


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (300,), generator=generator)
    centres = torch.randn(5, 16, generator=generator)
    features = centres[labels] + 1.5 * torch.randn(300, 16, generator=generator)
    return features[:200], labels[:200], features[200:]


def test_plain_votes_equal_scikit_learns(data):
    train, labels, queries = data
    theirs = KNeighborsClassifier(n_neighbors=10, metric="cosine").fit(train, labels).predict_proba(queries)
    ours = knn(train, labels, queries, classes=5, temperature=None)
    torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.float32))


def test_weighted_votes_rank_classes_as_lightlys(data):
    train, labels, queries = data
    theirs = knn_predict(F.normalize(queries), F.normalize(train).T, labels, num_classes=5, knn_k=20, knn_t=0.07)
    ours = knn(train, labels, queries, classes=5, k=20, temperature=0.07)
    voted = (ours > 0).sum(dim=1)  # classes without a vote tie, in no order
    for row, (mine, lightlys) in enumerate(zip(ours.argsort(dim=1, descending=True), theirs, strict=True)):
        assert mine[: voted[row]].tolist() == lightlys[: voted[row]].tolist()


def test_votes_sum_to_one_and_do_not_depend_on_the_length_of_features(data):
    train, labels, queries = data
    votes = knn(train, labels, queries, classes=5)
    torch.testing.assert_close(votes.sum(dim=1), torch.ones(100))
    torch.testing.assert_close(knn(train * 7, labels, queries * 0.1, classes=5), votes)


def test_a_sample_is_its_own_nearest_neighbour(data):
    train, labels, _ = data
    assert torch.equal(knn(train, labels, train, classes=5, k=1).argmax(dim=1), labels)


def test_chunks_change_nothing(data, monkeypatch):
    train, labels, queries = data
    whole = knn(train, labels, queries, classes=5)
    monkeypatch.setattr(module, "CHUNK", 7 * len(train))
    torch.testing.assert_close(knn(train, labels, queries, classes=5), whole)


def test_a_k_above_the_number_of_samples_lets_all_vote(data):
    train, labels, queries = data
    votes = knn(train, labels, queries, classes=5, k=10_000, temperature=None)
    torch.testing.assert_close(votes, (labels.bincount() / len(labels)).expand(100, 5))


def test_no_samples_are_no_neighbours():
    with pytest.raises(DataError, match="0 for 0"):
        knn(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(1, 4), classes=2)
