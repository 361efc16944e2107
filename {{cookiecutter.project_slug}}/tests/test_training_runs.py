"""Trainings that start, stop, go on, are refused or go wrong."""

import json
import math

import pytest
from small_project import configure_small, read_events, settings_of, train_small

from scripts.core.text import DetectorError
from scripts.steps.train import set_aside, spare_time
from scripts.training.run_file import may_continue

# Whether a training goes on, starts anew, or is refused.

RUN = {"model": "lite0-256", "input_px": 256, "classes": ["apple"], "data_sha256": {"train": "1"},
       "source": {"kind": "demo", "path": "images/source/demo"}, "steps": 10,
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
        ({"classes": ["apple", "Waschbär"], "data_sha256": {"train": "2"},
          "source": {"kind": "folder", "path": "../own"}}, False, "the classes were apple"),
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


# The real step on 24 drawn images.

@pytest.mark.slow
def test_a_run_says_how_it_ended(trained):
    run = json.loads((trained / "training/run.json").read_text("utf-8"))
    assert run["stopped_by"] == "budget" and run["steps"] == 2
    assert run["classes"] == ["apple", "banana", "orange", "strawberry"]
    assert run["best_checkpoint"].startswith("best_ckpt-")
    assert run["weights"]["license"] == "Apache-2.0"


@pytest.mark.slow
def test_a_raised_budget_continues_and_a_changed_setting_starts_anew(copy):
    configure_small(copy, INVOKE_TRAIN_EPOCHS="2")
    counts = train_small(copy)
    assert counts.steps == 4 and "continued at step 2" in str(counts)
    configure_small(copy, INVOKE_TRAIN_EPOCHS="1", INVOKE_TRAIN_LEARNING_RATE="0.003")
    counts = train_small(copy)
    assert counts.steps == 2 and "training/previous" in str(counts)
    assert (copy / "training/previous/run.json").is_file()


@pytest.mark.slow
def test_ctrl_c_saves_and_the_next_run_goes_on(copy):
    import signal

    from scripts.training import runner

    configure_small(copy, INVOKE_TRAIN_EPOCHS="9")
    after_loop = runner.Watch.after_loop

    def press_ctrl_c(watch, output):
        signal.raise_signal(signal.SIGINT)
        after_loop(watch, output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Watch, "after_loop", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt, match="saved at step 5"):
            train_small(copy)
    run = json.loads((copy / "training/run.json").read_text("utf-8"))
    assert run["stopped_by"] == "user" and run["steps"] == 5 and run["best_checkpoint"]
    assert train_small(copy, finish=True).stopped_by == "user"
    assert "continued at step 5" in str(train_small(copy))


@pytest.mark.slow
def test_another_model_is_refused_and_named(copy):
    from scripts.steps.train import train

    configure_small(copy, INVOKE_MODEL_ID="lite0-320")
    with pytest.raises(DetectorError, match="lite0-256.*lite0-320.*invoke forget train"):
        train(copy, "lite0-320", settings_of(copy).runtime)


@pytest.mark.slow
def test_an_experiment_edited_by_hand_is_not_overwritten(copy):
    path = copy / "training/experiment.yaml"
    edited = path.read_text("utf-8").replace("box_loss_weight: 2.0", "box_loss_weight: 3.0")
    path.write_text(edited, "utf-8")
    with pytest.raises(DetectorError, match=r'"task.losses.box_loss_weight" = 3.0'):
        configure_small(copy)
    assert path.read_text("utf-8") == edited


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('{"task.losses.box_los_weight" = 1}', "nearest: 'task.losses.box_loss_weight'"),
        ('{"trainer.steps_per_loop" = "many"}', "refused"),
    ],
)
def test_overrides_are_checked_against_the_schema(copy, override, message):
    with pytest.raises(DetectorError, match=message):
        configure_small(copy, INVOKE_OVERRIDES=override)


@pytest.mark.slow
@pytest.mark.release
def test_a_raised_budget_goes_on_at_the_rate_of_the_new_schedule(copy):
    from scripts.modeling.experiment import read_experiment

    configure_small(copy, INVOKE_TRAIN_EPOCHS="10")
    # As if minutes had been turned into steps on a busy machine.
    planned = json.loads((copy / "training/configured.json").read_text("utf-8")) | {"step_s": 900.0}
    (copy / "training/configured.json").write_text(json.dumps(planned), "utf-8")
    assert "not the 900.00 s that invoke configure measured" in str(train_small(copy))

    trainer = read_experiment(copy / "training/experiment.yaml").trainer
    total, warm_up = trainer.train_steps, trainer.optimizer_config.warmup.linear.warmup_steps
    assert total == 20 and warm_up == 2
    rates = read_events(copy / "training/train")["learning_rate"]
    for step in (10, 15, 20):
        cosine = 0.5 * (1 + math.cos(math.pi * step / total))
        assert float(rates[step]) == pytest.approx(0.0015 * (0.99 * cosine + 0.01), rel=1e-4)


@pytest.mark.slow
def test_a_loss_that_explodes_names_the_images_of_the_batch(copy):
    configure_small(copy, INVOKE_TRAIN_EPOCHS="9", INVOKE_TRAIN_LEARNING_RATE="100000.0")
    with pytest.raises(DetectorError,
                       match=r"the loss is .* at step \d+: images of that batch: \w+.jpg, .*lower "
                                            r"train.learning_rate \(it is 100000.0\)"):
        train_small(copy)


@pytest.mark.slow
def test_a_batch_too_large_for_the_memory_is_refused_with_the_largest_that_fits(copy, monkeypatch):
    from scripts.training import devices as memory

    def small(bytes_free, batch_size):
        monkeypatch.setattr(memory, "free_memory_bytes", lambda: bytes_free)
        configure_small(copy, INVOKE_TRAIN_BATCH_SIZE=str(batch_size), INVOKE_TRAIN_EPOCHS="1")
        return train_small(copy)

    with pytest.raises(DetectorError,
                       match=r"a step of 64 images needs about 2.9 GB, 1.0 GB are free.*"
                                            r"try train.batch_size = 11"):
        small(1e9, 64)
    assert (copy / "training/ckpt-2.index").is_file(), "the run that was there is where it was"
    assert small(1e9, 11).steps > 0
    with pytest.raises(DetectorError, match="try a smaller model.id"):
        small(5e8, 1)


@pytest.mark.slow
@pytest.mark.release
def test_patience_counts_evaluations_over_restarts(copy, monkeypatch):
    """Three evaluations without a better AP, one in each of three sessions."""
    from scripts.training import runner

    def no_better(watch, output):
        after_evaluation(watch, output | {"AP": 0.5 if watch.steps == 2 else 0.4})

    after_evaluation = runner.Watch.after_evaluation
    monkeypatch.setattr(runner.Watch, "after_evaluation", no_better)
    for epochs, stopped_by in ((3, "budget"), (4, "budget"), (9, "patience")):
        configure_small(copy, INVOKE_TRAIN_EPOCHS=str(epochs))
        counts = train_small(copy, patience=3)
        assert counts.stopped_by == stopped_by
    assert counts.steps < 18
    run = json.loads((copy / "training/run.json").read_text("utf-8"))
    assert [each["AP"] for each in run["evaluations"]][-3:] == [0.4, 0.4, 0.4]


@pytest.mark.slow
@pytest.mark.release
def test_a_damaged_checkpoint_is_removed_and_the_one_before_goes_on(copy, capfd):
    configure_small(copy, INVOKE_TRAIN_EPOCHS="3")
    train_small(copy)
    data = copy / "training/ckpt-6.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-100_000] + bytes(100_000))
    configure_small(copy, INVOKE_TRAIN_EPOCHS="4")
    counts = train_small(copy)
    said = capfd.readouterr()
    assert "train: training/ckpt-6 cannot be read and is removed" in said.out
    assert "deprecated" not in said.err, "nothing of TensorFlow's stands between our lines"
    assert counts.steps == 8 and "continued at step " in str(counts)
    assert "continued at step 6" not in str(counts)
    left = list((copy / "training").glob("ckpt-*.index"))
    assert len(left) == 2, "those of earlier sessions are not left behind"


@pytest.mark.slow
def test_a_worker_is_told_what_it_lacks(copy):
    from scripts.core.schema import Runtime
    from scripts.steps.train import join, train

    machines = {"distribution_strategy": "multi_worker_mirrored", "worker_hosts": "a:1,b:1"}
    with pytest.raises(DetectorError, match="this one joins it with invoke worker"):
        train(copy, "lite0-256", Runtime(**machines, task_index=1))
    with pytest.raises(DetectorError, match="task_index = 0 of 2 worker_hosts"):
        join(copy, Runtime(**machines, task_index=0))
    message = "train.batch_size = 8 cannot be shared among 3 devices"
    with pytest.raises(DetectorError, match=message):
        from scripts.training.devices import require_even_batch

        require_even_batch(8, 3)
