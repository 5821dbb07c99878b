"""What could be either: defects pass as good as rarely as was said, kind by kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionft.errors import DataError
from visionft.inspection.doubt import Doubt, enough, least


def test_the_threshold_is_the_rank_that_the_formula_says():
    doubt = Doubt.of(np.arange(1, 20), ["dent"] * 19, 0.1)
    assert doubt.threshold == 2  # floor(0.1 * 20) = 2nd smallest of 19
    assert doubt.among([1, 2, 3, 3], [False, False, False, True]).tolist() == [False, True, True, False]
    assert Doubt(**doubt.facts()) == doubt


@given(st.integers(9, 60), st.floats(0.05, 0.5))
def test_a_new_defect_passes_as_rarely_as_was_said(n, false_accept):
    if n < least(false_accept):
        with pytest.raises(DataError, match="which support"):
            enough(n, false_accept)
        return
    ranks = np.arange(n + 1)  # a new one is equally likely to have any rank among all n + 1
    shares = [float(Doubt.of(np.delete(ranks, new), ["x"] * n, false_accept).threshold > new) for new in ranks]
    assert np.mean(shares) <= false_accept + 1e-9
    assert np.mean(shares) > false_accept - 1 / (n + 1) - 1e-9


def test_each_kind_with_enough_photos_has_the_promise_for_itself():
    scores, kinds = [*range(100, 120), 5, 6, 7], ["dent"] * 20 + ["hair"] * 3
    one = Doubt.of(scores, kinds, 0.15, by_kind=True)
    assert one.threshold == 7 and "of each kind: dent" in one.words() and "hair (3)" in one.words()
    more, kinds = [*scores, *range(90, 97)], kinds + ["hair"] * 7
    assert Doubt.of(more, kinds, 0.15, by_kind=True).threshold == 5  # the smallest of 10
    assert Doubt.of(more, kinds, 0.15).threshold == 90 and "kind" not in Doubt.of(more, kinds, 0.15).words()


def test_what_so_few_cannot_support_is_refused_with_what_they_can():
    with pytest.raises(DataError, match=r"needs at least 99 photos of defects and there are 9, .* false_accept=0.1$"):
        Doubt.of(range(9), ["dent"] * 9, 0.01)
    with pytest.raises(DataError, match="1 of 20 scores of defects are not finite"):
        Doubt.of([np.nan, *range(19)], ["dent"] * 20, 0.1)
