"""LoRA's layer as one step is the plain formula: values, gradients, precision of autocast, and what it keeps."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visionft.adapters.attach import Adapter
from visionft.adapters.thin import beside
from visionft.kernels import fast_kernels


class Layer:
    """What `beside` asks a layer for."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.own_weight, self.own_bias = weight, bias


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.integers(1, 3), min_size=1, max_size=3), into=st.integers(1, 6), out=st.integers(1, 6),
    rank=st.integers(1, 4), biased=st.booleans(),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_formula(rows, into, out, rank, biased):
    x, a, b = (numbers(*s, seed=i).requires_grad_() for i, s in enumerate(((*rows, into), (rank, into), (out, rank))))
    layer = Layer(numbers(out, into, seed=4), numbers(out, seed=5) if biased else None)
    plain = F.linear(x, layer.own_weight + 0.7 * b @ a, layer.own_bias)
    torch.testing.assert_close(beside(x, layer, a, b, 0.7), plain, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *given: beside(given[0], layer, *given[1:], 0.7), (x, a, b))


def test_transposed_inputs_and_gradients_are_taken_as_they_come():
    x, a, b = numbers(5, 4, seed=0).T.requires_grad_(), numbers(2, 5, seed=1), numbers(3, 2, seed=2)
    layer = Layer(numbers(3, 5, seed=3), None)
    (found,) = torch.autograd.grad(beside(x, layer, a, b, 1.0).T.square().sum(), x)
    (wanted,) = torch.autograd.grad(F.linear(x, layer.own_weight + b @ a).square().sum(), x)
    torch.testing.assert_close(found, wanted)


LAYERS = {
    "linear": (nn.Linear(24, 16), (5, 7, 24)),
    "pixels": (nn.Conv2d(24, 16, 1), (3, 24, 5, 4)),
    "pixels without a bias": (nn.Conv2d(24, 16, 1, bias=False), (3, 24, 5, 4)),
}


def pair(name: str, **options) -> tuple[nn.Module, nn.Module]:
    """The same frozen layer with the same factors: in one step, and as layers side by side."""
    torch.manual_seed(0)
    net = nn.Sequential(copy.deepcopy(LAYERS[name][0])).requires_grad_(False)
    adapter = Adapter(net, {"name": "lora", "rank": 4, "layers": ".*", **options})
    with torch.no_grad():
        adapter.parts()["0"].lora_B.weight.normal_()
    both = nn.ModuleList([net, adapter])
    twin = copy.deepcopy(both)
    twin[1].parts()["0"].product = False
    return both, twin


def gradients(both: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    given = x.clone().requires_grad_()
    y = both[0](given)
    y.square().sum().backward()
    return [y.detach(), given.grad, *(p.grad for p in both[1].parameters())]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_layer_answers_and_learns_as_its_factors_side_by_side_do(name, memory):
    x = numbers(*LAYERS[name][1], seed=1)
    x = x.to(memory_format=memory) if x.ndim == 4 else x
    sides = [side.double() for side in pair(name)]
    for mine, plain in zip(*(gradients(side, x) for side in sides), strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_decides_the_arithmetic_and_gradients_keep_the_type_of_what_they_are_of(name, dtype):
    x = numbers(*LAYERS[name][1], seed=1, dtype=dtype)
    one, _ = pair(name)
    exact = gradients(one, x.float())
    for p in one.parameters():
        p.grad = None
    given = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = one[0](given)
    assert y.dtype == torch.bfloat16 and one[0][0].own_weight.dtype == torch.float32
    y.float().square().sum().backward()
    found = [y.detach(), given.grad, *(p.grad for p in one[1].parameters())]
    assert [t.dtype for t in found[1:]] == [dtype, torch.float32, torch.float32]
    for mine, wanted in zip(found, exact, strict=True):
        assert (mine.float() - wanted).norm() < 0.02 * wanted.norm()


def test_of_a_linear_only_its_input_and_the_thin_product_are_kept():
    one, _ = pair("linear")
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        one[0](torch.randn(5, 7, 24))
    assert sorted(kept) == sorted([35 * 24, 35 * 4, 4 * 24, 16 * 4])  # x, x A', A, B


def test_the_gradient_of_the_input_is_not_computed_where_nobody_asks(monkeypatch):
    one, _ = pair("linear")
    kind, asked = type(one[0][0]), []
    own = kind.own_weight
    monkeypatch.setattr(kind, "own_weight", property(lambda self: asked.append(1) or own.fget(self)))
    one[0](torch.randn(2, 24)).sum().backward()
    assert len(asked) == 1
    one[0](torch.randn(2, 24).requires_grad_()).sum().backward()
    assert len(asked) == 3


def test_what_comes_behind_may_change_the_answer_in_place():
    one, other = (side.double() for side in pair("pixels"))
    x = numbers(3, 24, 5, 4, seed=1)
    found = [torch.autograd.grad(F.relu_(side[0](x)).sum(), [*side[1].parameters()]) for side in (one, other)]
    for mine, plain in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("options", [{"dora": True}, {"dropout": 0.5}])
def test_what_one_step_cannot_do_goes_the_plain_way(options):
    assert not Adapter(nn.Sequential(nn.Linear(8, 8)), {"name": "lora", "layers": ".*", **options}).parts()["0"].product


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1, padding=1)],
)
def test_convolutions_that_mix_or_skip_pixels_stay_convolutions(layer):
    assert not Adapter(nn.Sequential(layer), {"name": "lora", "layers": ".*"}).parts()["0"].product


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    net = nn.Sequential(Twice(8, 8))
    x = torch.randn(2, 8)
    before = net(x)
    Adapter(net, {"name": "lora", "layers": ".*"})
    net.requires_grad_(False)
    torch.testing.assert_close(net(x), before)


def test_weights_that_learn_beside_their_factors_get_their_gradients():
    one, other = (side.double() for side in pair("linear"))
    for side in (one, other):
        side[0].requires_grad_(True)
        gradients(side, numbers(5, 7, 24, seed=1))
    for (name, mine), plain in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        torch.testing.assert_close(mine.grad, plain.grad)


def test_nothing_below_the_first_adapted_layer_is_differentiated():
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)).requires_grad_(False)
    Adapter(net, {"name": "lora", "layers": "2"})
    seen = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda m, x, y, name=name: seen.__setitem__(name, y.requires_grad))
    with fast_kernels():
        net(torch.randn(2, 8))
    assert seen == {"0": False, "1": False, "2": True}
