"""Copies are found through re-encoding, resizing and light; pictures that only share a frame are not."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from visionft.data.near import near_copies


def textures(count: int, seed: int = 0, frame: float = 0.0) -> list[np.ndarray]:
    """Smooth random pictures, 96 x 96 x 3, with the same bars drawn over all of them."""
    rng = np.random.default_rng(seed)
    bars = 255.0 * (np.add.outer(np.arange(96) // 8 % 3, np.arange(96) // 12 % 2) % 2)
    made = []
    for _ in range(count):
        own = cv2.resize(rng.uniform(0, 255, (12, 12)).astype(np.float32), (96, 96), interpolation=cv2.INTER_CUBIC)
        mixed = (1 - frame) * own + frame * bars
        made.append(np.repeat(mixed.clip(0, 255).astype(np.uint8)[..., None], 3, 2))
    return made


def worse(image: np.ndarray) -> np.ndarray:
    """Smaller, darker on one side, and through JPEG."""
    small = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    lit = (small * np.linspace(0.8, 1.0, small.shape[1])[None, :, None]).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", lit, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR)


@given(seed=st.integers(0, 20))
@settings(max_examples=10, deadline=None)
def test_a_worse_copy_is_found_and_nothing_else(seed):
    images = textures(40, seed)
    found = near_copies([*images, worse(images[7]), worse(images[31])])
    assert {(a, b) for a, b, _ in found} == {(7, 40), (31, 41)}


def test_pictures_that_share_a_frame_are_no_copies_where_there_are_enough_to_know_the_frame():
    images = textures(600, frame=0.9)
    assert near_copies(images[:2]), "two pictures alone cannot tell the frame from the subject"
    brighter = images[5] // 2 + np.uint8(100)
    assert {(a, b) for a, b, _ in near_copies([*images, brighter])} == {(5, 600)}


def test_flat_pictures_resemble_nobody():
    flat = [np.full((50, 60, 1), value, np.uint8) for value in (10, 10, 200)]
    assert near_copies(flat) == [] and near_copies([]) == []


def test_the_most_alike_come_first_and_pairs_are_named_once():
    images = textures(30)
    found = near_copies([*images, images[3], worse(images[4])])
    assert [(a, b) for a, b, _ in found] == [(3, 30), (4, 31)]
    assert found[0][2] > found[1][2]
