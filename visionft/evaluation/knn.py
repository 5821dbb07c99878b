"""Nearest neighbours by cosine similarity: what a representation knows before anything is trained on it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from visionft.errors import DataError

CHUNK = 1 << 22  # similarities held at once: 16 MB


def knn(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    *,
    classes: int,
    k: int = 10,
    temperature: float | None = 0.07,
) -> Tensor:
    """Let the k nearest training samples vote with weight exp(cosine / temperature); None gives each one vote.

    Features N D and M D, labels N; the votes M C sum to one. The weighting is that of instance discrimination
    (arXiv:1805.01978), as DINO uses it (arXiv:2104.14294). A k above N means all. Raises DataError without samples.
    """
    if len(train_features) == 0 or len(train_features) != len(train_labels):
        raise DataError(f"neighbours need one label for each sample: {len(train_labels)} for {len(train_features)}")
    bank = F.normalize(train_features.float(), dim=1)
    votes = features.new_zeros(len(features), classes, dtype=torch.float32)
    rows = max(1, CHUNK // len(bank))
    for start in range(0, len(features), rows):
        queries = F.normalize(features[start : start + rows].float(), dim=1)
        similarity, nearest = (queries @ bank.T).topk(min(k, len(bank)), dim=1)
        weight = torch.zeros_like(similarity) if temperature is None else similarity / temperature
        votes[start : start + rows].scatter_add_(1, train_labels[nearest], weight.softmax(dim=1))
    return votes
