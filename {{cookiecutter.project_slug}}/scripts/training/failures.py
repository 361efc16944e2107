"""TODO."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from scripts.core.layout import Layout
from scripts.core.text import DetectorError
from scripts.data.examples import record_names

EXPLODED = 1e4


EXPLODED_MARK = "the loss explodes on images"


MOST_NAMES = 8



def check_loss(loss, image_numbers) -> None:
    """Inside a training step: ends training if `loss` is not a number or beyond reason, naming the
    batch."""
    tf.debugging.Assert(loss < EXPLODED, [EXPLODED_MARK, image_numbers, "loss", loss], summarize=-1)



@contextmanager
def explained(root: Path, experiment, steps) -> Iterator[None]:
    """Turns TensorFlow's errors of a training into DetectorError; `steps()` is how many were made.
    """
    batch_size = experiment.task.train_data.global_batch_size
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if EXPLODED_MARK not in str(error):
            raise
        raise DetectorError(_explosion(root, str(error), steps(), experiment)) from None
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error) or "ENOSPC" in str(error):
            raise DetectorError("no space left on the disk: training/: free some, then invoke train continues at the "
                                "last checkpoint") from None
        raise DetectorError(f"a step of {batch_size} images does not fit into the device's memory: detector.toml: "
                            f"try train.batch_size = {max(1, batch_size // 2)}") from None
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError) as error:
        raise DetectorError(f"another machine stopped or cannot be reached ({cause(error)}): "
                            "[runtime] in detector.toml: start invoke train on all of them again, it continues at "
                            "the last checkpoint") from None



def cause(error: Exception) -> str:
    """The line of TensorFlow's long text that says what happened: the last one that is no place in
    code."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("[[", "File ", "Detected at", "Additional GRPC"))]
    return said[-1][:160] if said else type(error).__name__



def _explosion(root: Path, text: str, steps: int, experiment) -> str:
    numbers, loss = re.search(re.escape(EXPLODED_MARK) + r"\W*\[([\d ]*)\]\W*loss\W*([-\w.+]+)", text).groups()
    wanted = {int(number) for number in numbers.split()}
    names = [name for number, name in enumerate(record_names(Layout(root).records("train"))) if number in wanted]
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    rate = experiment.trainer.optimizer_config.learning_rate.get().as_dict().get("initial_learning_rate")
    lower = f" (it is {rate})" if rate else ""
    return (f"the loss is {loss} at step {steps + 1:,}: images of that batch: {shown}: look at their boxes with "
            f"invoke preview, or try a lower train.learning_rate{lower} or a larger train.batch_size in "
            "detector.toml; the last checkpoint is as it was")
