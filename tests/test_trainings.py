"""Trainings that are killed, and trainings of two processes: what the README promises of both."""

import json
import os
import signal
import time

import pytest

from benchmarks import kills, workers


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.release)])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, count):
    """Twenty kills are in benchmarks/kills.py; these few are what there is time for each time."""
    result = kills.survive(tmp_path, kills=count, seed=3)
    assert result.kills >= 1
    assert result.differences == []


@pytest.mark.slow
@pytest.mark.release
def test_two_workers_reach_the_loss_of_one_process(tmp_path):
    result = workers.compare(tmp_path, epochs=4)
    assert set(result.one) == set(result.two)
    assert result.largest_difference < 0.01


@pytest.mark.slow
@pytest.mark.release
def test_ctrl_c_on_one_of_two_machines_stops_both_with_everything_saved(tmp_path):
    project, machines = kills.tiny_project(tmp_path, "both"), workers.two_machines() | {
        "INVOKE_TRAIN_EPOCHS": "900"}
    kills.invoke(project, "configure", "pretrained", **machines)
    started = [kills.start(project, task, **machines, INVOKE_RUNTIME_TASK_INDEX=str(index))
               for index, task in enumerate(("train", "worker"))]
    try:
        deadline_s = time.monotonic() + kills.LONGEST_RUN_S
        while not list(
            (project / "training").glob("ckpt-*.index")) and time.monotonic() < deadline_s:
            time.sleep(0.5)
        started[1].send_signal(signal.SIGINT)
        assert [process.wait(kills.LONGEST_RUN_S) for process in started] == [130, 0]
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    run = json.loads((project / "training/run.json").read_text("utf-8"))
    assert run["stopped_by"] == "user"
    assert (project / f"training/ckpt-{run['steps']}.index").is_file()
    said = (project / "invoke.log").read_text("utf-8")
    assert f"worker 1: training ended at step {run['steps']}, stopped by user" in said
