"""The verdict on the gap follows from intervals, and never advises against what it has seen."""

import pytest

from visionft.evaluation.gap import Course, verdict

FALLING = [(0, 0.6), (10, 0.5), (20, 0.4)]
TURNED = [(0, 0.6), (10, 0.4), (20, 0.5)]


def test_a_large_gap_is_memory_and_names_remedies_and_the_step_that_was_kept():
    said = verdict(Course((0.99, 500), (0.86, 300), TURNED, 10))
    assert said.startswith("The training images are learnt by heart: training images 0.990 right, validation images")
    assert "best at step 10" in said and "policy=" in said and "longer" not in said


def test_the_same_gap_is_none_when_a_few_images_are_all_there_is():
    said = verdict(Course((0.99, 500), (0.95, 20), TURNED, 10))
    assert said.startswith("No gap that can be told") and "Neither longer" in said


def test_without_a_gap_and_with_a_loss_that_still_falls_more_steps_are_advised_and_no_augmentation():
    said = verdict(Course((0.86, 500), (0.86, 300), FALLING, 20))
    assert said.startswith("No gap that can be told") and "longer run" in said and "policy=" not in said


def test_with_a_gap_and_a_loss_that_still_falls_the_advice_is_to_go_on():
    said = verdict(Course((0.97, 500), (0.86, 300), FALLING, 20))
    assert "by heart" in said and "longer run" in said and "policy=" not in said


def test_a_run_that_never_beat_its_start_says_so_whatever_the_gap():
    said = verdict(Course((0.9, 500), (0.86, 300), [(0, 0.4), (10, 0.5), (20, 0.6)], 0))
    assert said.startswith("Training did not improve on its start")


def test_a_run_without_evaluations_is_judged_by_its_accuracies_alone():
    assert "longer" not in verdict(Course((0.86, 500), (0.86, 300)))
    assert "step" not in verdict(Course((0.99, 500), (0.8, 300)))


def test_half_memory_is_not_called_memory():
    assert "in part by heart" in verdict(Course((0.8, 500), (0.6, 300), TURNED, 10))


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.3])
def test_the_gap_has_the_sign_of_training_less_validation(gap):
    mean, low, high = Course((0.6 + gap, 400), (0.6, 400)).gap
    assert mean == pytest.approx(gap) and low < mean < high
