"""What several heads cost: the formulas written out, nothing for what is not known, and parts that add up."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionft.data.targets import Classes, Flags, Levels, Number
from visionft.tasks.heads import Heads, Rows, elements, rows, said

KIND = Classes("kind", names=("a", "b", "c"))
MARKS = Flags("marks", names=("x", "y"), listed=True)
SIZE = Number("size", mean=50.0, scale=10.0)
GRADE = Levels("grade", names=("1", "2", "3", "4"))
EVERY = (KIND, MARKS, SIZE, GRADE)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def test_classes_cost_cross_entropy_and_flags_binary_cross_entropy():
    logits, labels = drawn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    cost = elements(KIND, logits, labels[:, None].double())
    torch.testing.assert_close(cost[:, 0], F.cross_entropy(logits, labels, reduction="none"))
    flags = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    p = drawn(3, 2).sigmoid()
    wanted = -(flags * p.log() + (1 - flags) * (1 - p).log())
    torch.testing.assert_close(elements(MARKS, drawn(3, 2), flags.double()), wanted)


def test_numbers_cost_smooth_l1_of_standard_scores():
    values = torch.tensor([[50.0], [55.0], [80.0]], dtype=torch.float64)
    cost = elements(SIZE, torch.zeros(3, 1), values)  # 0, 0.5 and 3 deviations from the mean
    torch.testing.assert_close(cost[:, 0], torch.tensor([0.0, 0.5 * 0.5**2, 3 - 0.5]))


def test_large_numbers_lose_no_digits_before_they_are_standardised():
    when = Number("when", mean=1.7e9, scale=1.0)
    cost = elements(when, torch.zeros(1, 1), torch.tensor([[1.7e9 + 1]], dtype=torch.float64))
    assert float(cost) == pytest.approx(0.5)


def test_levels_cost_the_mean_over_cuts_of_coral():
    logits, level = drawn(4, 3), torch.tensor([0, 1, 3, 2])
    above = torch.stack([(level > k).float() for k in range(3)], 1)
    p = logits.sigmoid()
    wanted = -(above * p.log() + (1 - above) * (1 - p).log()).mean(1)
    torch.testing.assert_close(elements(GRADE, logits, level[:, None].double())[:, 0], wanted)


def test_all_cuts_of_levels_share_one_row_of_weights():
    assert rows(EVERY) == [0, 1, 2, 3, 4, 5, 6, 6, 6]
    layer = Rows(5, rows(EVERY))
    z = drawn(3, 5)
    assert layer.weight.shape == (7, 5) and layer.bias.shape == (9,)
    torch.testing.assert_close(layer(z)[:, 8], z @ layer.weight[6] + layer.bias[8])


def test_answers_are_probabilities_and_levels_stay_in_order_whatever_the_cuts():
    logits = drawn(50, 9, seed=3)  # cuts in any order
    p = said(EVERY, logits)
    assert p.shape == (50, 3 + 2 + 1 + 4)
    torch.testing.assert_close(p[:, :3].sum(1), torch.ones(50))
    torch.testing.assert_close(p[:, 6:].sum(1), torch.ones(50))
    assert (p[:, 6:] >= 0).all()
    torch.testing.assert_close(p[:, 3:5], logits[:, 3:5].sigmoid())
    torch.testing.assert_close(p[:, 5:6], logits[:, 5:6])
    ordered = logits.clone()
    ordered[:, 6:] = ordered[:, 6:].sort(descending=True).values
    above = ordered[:, 6:].sigmoid()
    torch.testing.assert_close(said(EVERY, ordered)[:, 6], 1 - above[:, 0])
    torch.testing.assert_close(said(EVERY, ordered)[:, 7], above[:, 0] - above[:, 1])
    torch.testing.assert_close(said(EVERY, ordered)[:, 9], above[:, 2])


@pytest.fixture
def batch(make_objective, make_data):
    model = make_objective("heads", "test_resnet")
    data = make_data(model, policy="none")
    return data.collate([data[at] for at in range(12)])


def test_the_loss_is_the_mean_of_the_columns_each_over_what_is_known(make_objective, batch):
    model = make_objective("heads", "test_resnet").eval()
    losses = model(batch)
    names = [f"{target.column}/loss" for target in model.targets]
    assert set(losses) == {"loss", *names}
    torch.testing.assert_close(losses["loss"], torch.stack([losses[name] for name in names]).mean())
    known = batch["targets"][:, -1].isfinite()  # of `size`: three in four, as in all the data
    assert 0 < known.sum() < 12
    out = model.head(model.backbone(batch["image"]))[known, -1]
    size = model.targets[-1]
    truth = ((batch["targets"][known, -1] - size.mean) / size.scale).float()
    torch.testing.assert_close(losses["size/loss"], F.smooth_l1_loss(out, truth))


def test_a_value_that_is_not_known_gives_no_gradient(make_objective, batch):
    def gradients(targets: torch.Tensor) -> list[torch.Tensor]:
        model = make_objective("heads", "test_vit").eval()
        model({**batch, "targets": targets})["loss"].backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    nothing = torch.full_like(batch["targets"], torch.nan)
    assert all(not g.any() for g in gradients(nothing))
    one = nothing.clone()
    one[3] = batch["targets"][3].nan_to_num(1.0)
    single = {key: value[3:4] for key, value in batch.items()} | {"targets": one[3:4]}
    model = make_objective("heads", "test_vit").eval()
    model(single)["loss"].backward()
    alone = [p.grad / 12 for p in model.parameters() if p.grad is not None]
    for ours, theirs in zip(gradients(one), alone, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_parts_of_a_batch_add_up_to_the_whole_however_its_gaps_are_dealt(make_objective, batch):
    model = make_objective("heads", "test_resnet").eval()
    whole = model(batch)
    parts = [model({key: value[at : at + 3] for key, value in batch.items()}) for at in range(0, 12, 3)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.stack([part[name] for part in parts]).mean(), value)


def test_it_begins_with_the_answers_of_the_probes_it_is_given(make_objective, batch):
    model = make_objective("heads", "test_resnet").eval()
    weight, bias = drawn(*model.head.weight.shape), drawn(*model.head.bias.shape, seed=1)
    model.start_from(weight, bias)
    z = model.backbone(batch["image"])
    wanted = said(model.targets, z @ weight[rows(model.targets)].T + bias)
    torch.testing.assert_close(model.predict(batch["image"]), wanted)


def test_what_it_is_told_of_columns_is_what_the_table_says(make_objective, table, pixels):
    model = make_objective("heads", "test_resnet")
    values = model.columns(pixels, table, 32)["targets"]
    assert values.dtype == torch.float64
    assert values[5].isnan().tolist() == [False, True, True, True, False, True]
    assert np.allclose(values[2].tolist(), [2, 1, 1, 0, np.nan, 35], equal_nan=True)


def test_the_whole_is_said_by_plain_json(make_objective):
    model = make_objective("heads", "test_resnet")
    again = Heads(copy.deepcopy(model.backbone), targets=[target.facts() for target in model.targets])
    assert again.targets == model.targets
