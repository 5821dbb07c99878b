"""Attention by products is torch's attention, is taken only where it is faster, and training a ViT stays the same."""

from contextlib import nullcontext

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from visionft.attention import SHORT, by_products
from visionft.kernels import fast_kernels


def tokens(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@settings(max_examples=30, deadline=None)
@given(queries=st.integers(1, 9), keys=st.integers(1, 9), width=st.integers(1, 8), masked=st.booleans())
def test_outputs_and_gradients_are_those_of_the_formula_as_torch_computes_it(queries, keys, width, masked):
    query, key, value = tokens(2, 3, queries, width), tokens(2, 3, keys, width, seed=1), tokens(2, 3, keys, 5, seed=2)
    mask = tokens(queries, keys, seed=3).detach() if masked else None
    ours = by_products(query, key, value, mask, None)
    theirs = F.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    direction = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad(ours, (query, key, value), direction),
        torch.autograd.grad(theirs, (query, key, value), direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_a_scale_can_be_given():
    query, key, value = (tokens(1, 2, 6, 4, seed=seed) for seed in range(3))
    expected = F.scaled_dot_product_attention(query, key, value, scale=0.3)
    torch.testing.assert_close(by_products(query, key, value, None, 0.3), expected)


def test_bfloat16_is_nearly_as_close_to_the_truth_as_torchs_kernel():
    """Its scores are rounded once more, as in any mixed-precision attention that is not fused."""
    query, key, value = (tokens(8, 3, 50, 64, seed=seed) for seed in range(3))
    truth = torch.autograd.grad(F.scaled_dot_product_attention(query, key, value).square().sum(), (query, key, value))
    errors = []
    for way in (lambda *each: by_products(*each, None, None), F.scaled_dot_product_attention):
        half = [each.detach().bfloat16().requires_grad_() for each in (query, key, value)]
        found = torch.autograd.grad(way(*half).float().square().sum(), half)
        errors.append(max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, truth, strict=True)))
    assert errors[0] < 2 * errors[1] < 0.02


KERNEL, PRODUCTS = "ScaledDotProduct", "UnsafeViewBackward0"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, PRODUCTS),
        ({"attn_mask": torch.zeros(7, 7)}, PRODUCTS),
        ({"is_causal": True}, KERNEL),
        ({"attn_mask": torch.ones(7, 7, dtype=torch.bool)}, KERNEL),
    ],
)
def test_only_plain_attention_is_replaced(how, expected):
    query = tokens(2, 3, 7, 8, dtype=torch.float32)
    with fast_kernels():
        output = F.scaled_dot_product_attention(query, query, query, **how)
    assert type(output.grad_fn).__name__.startswith(expected)


@pytest.mark.parametrize("dtype", list(SHORT))
def test_many_keys_stay_with_torchs_kernel(dtype):
    for keys, expected in ((SHORT[dtype], PRODUCTS), (SHORT[dtype] + 1, KERNEL)):
        query, key = tokens(1, 1, 2, 8, dtype=dtype), tokens(1, 1, keys, 8, dtype=dtype)
        with fast_kernels():
            output = F.scaled_dot_product_attention(query, key, key)
        assert type(output.grad_fn).__name__.startswith(expected)


@pytest.mark.parametrize("dtype", list(SHORT))
def test_answers_without_gradients_stay_bit_identical(dtype):
    query = tokens(2, 3, 7, 8, dtype=dtype)
    expected = F.scaled_dot_product_attention(query, query, query).detach()
    with fast_kernels(), torch.no_grad():
        assert torch.equal(F.scaled_dot_product_attention(query, query, query), expected)


@pytest.mark.parametrize(("dtype", "products"), [(torch.bfloat16, True), (torch.float32, False)])
def test_frozen_layers_of_a_training_step_take_the_faster_way_of_their_arithmetic(dtype, products):
    fixed = tokens(2, 3, 50, 8, dtype=dtype).detach()
    ways = (F.scaled_dot_product_attention(fixed, fixed, fixed), by_products(fixed, fixed, fixed, None, None))
    assert not torch.equal(*ways)
    with fast_kernels():
        assert torch.equal(F.scaled_dot_product_attention(fixed, fixed, fixed), ways[products])


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 32), ("swin_tiny_patch4_window7_224", 56)])
def test_a_whole_network_gets_the_gradients_of_torch(name, size):
    """Swin adds a table of biases to its scores, when told to use the fused kernel."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, img_size=size, drop_path_rate=0)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    images, found = torch.randn(2, 3, size, size), []
    for kernels in (fast_kernels(), nullcontext()):
        model.zero_grad()
        with kernels:
            model(images).square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=2e-5 * found[1].abs().max().item())
    assert not torch.equal(*found)  # two ways were taken
