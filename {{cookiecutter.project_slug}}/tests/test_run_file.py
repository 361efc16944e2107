"""Whether a training goes on, starts anew, or is refused."""

import pytest

from scripts.core.text import DetectorError
from scripts.steps.train import set_aside, spare_time
from scripts.training.run_file import may_continue

RUN = {"model": "lite0-256", "input_px": 256, "classes": ["apple"], "data_sha256": {"train": "1"},
       "steps": 10,
       "settings": {"trainer.train_steps": 20}}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "goes_on", "reason"),
    [
        ({}, True, ""),
        ({"settings": {"trainer.train_steps": 40}}, True, ""),
        ({"settings": {"trainer.train_steps": 5}}, False,
         "fewer steps are asked for than were made"),
        ({"data_sha256": {"train": "2"}}, False, "the images or boxes changed"),
        # From the demo to own images nobody has to type another command.
        ({"classes": ["Waschbär"], "data_sha256": {"train": "2"}}, False, "the classes were apple"),
    ],
)
def test_what_the_settings_allow(change, goes_on, reason):
    assert may_continue(RUN, {**RUN, **change}) == (goes_on, reason)


@pytest.mark.parametrize("change", [{"model": "lite0-320"}, {"input_px": 320},
                                    {"classes": ["Waschbär", "cat"]}])
def test_another_model_says_what_to_type(change):
    with pytest.raises(DetectorError, match="training/run.json: type invoke forget train"):
        may_continue({**RUN, "classes": ["Waschbär"]}, {**RUN, "classes": ["Waschbär"], **change})


def test_a_run_that_saved_nothing_does_not_push_out_the_one_before(tmp_path):
    """Refused or exploded before its first checkpoint: what training/previous holds is worth more.
    """
    training = tmp_path / "training"
    training.mkdir()
    for name in ("run.json", "ckpt-5.index", "ckpt-5.data-00000-of-00001"):
        (training / name).write_text("good")
    assert "training/previous" in set_aside(tmp_path)
    (training / "run.json").write_text("empty")
    assert set_aside(tmp_path) == ""
    assert (training / "previous/run.json").read_text() == "good"
    assert not (training / "run.json").exists()


def test_a_training_that_was_planned_on_a_busy_machine_says_that_more_was_possible():
    """204 steps in one of the three minutes given: nobody would notice that the model could be
    better."""
    advice = spare_time(0.3, 0.9)
    assert advice.startswith("a step took 0.30 s, not the 0.90 s that invoke configure measured")
    assert "3.0 times the train.minutes" in advice


@pytest.mark.parametrize(("step_s", "planned_step_s"), [(0.8, 0.9), (1.8, 0.9), (0.3, None),
                                                        (0.0, 0.9)])
def test_a_training_that_took_its_time_or_was_not_measured_says_nothing(step_s, planned_step_s):
    assert spare_time(step_s, planned_step_s) == ""
