"""Trainings that are killed, and trainings of two processes: what the README promises of both."""

import pytest

from benchmarks import kills, workers


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    """Twenty kills are in benchmarks/kills.py; these few are what there is time for each time."""
    result = kills.survive(tmp_path, kills=2, seed=3)
    assert result.kills >= 1
    assert result.differences == []


@pytest.mark.slow
def test_two_workers_reach_the_loss_of_one_process(tmp_path):
    result = workers.compare(tmp_path, epochs=4)
    assert set(result.one) == set(result.two)
    assert result.largest_difference < 0.01
