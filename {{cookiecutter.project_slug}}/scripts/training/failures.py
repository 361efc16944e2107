"""What may go wrong inside TensorFlow while training, as one line that says what to type next."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from scripts.core.text import DetectorError
from scripts.data.examples import record_names

# A loss of a training that works starts near 2: this only means that it has run away.
EXPLODED = 1e4
EXPLODED_MARK = "the loss explodes on images"
MOST_NAMES = 8
# Lines of TensorFlow's errors that name places in code.
PLACES = ("[[", "File ", "Detected at", "Additional GRPC")


def check_loss(loss, image_numbers) -> None:
    """End training inside a step if `loss` is not a number or beyond reason.

    `image_numbers` int64 [batch] are those of the images in the records; the error holds them.
    """
    tf.debugging.Assert(loss < EXPLODED, [EXPLODED_MARK, image_numbers, "loss", loss], summarize=-1)


@contextmanager
def explained(experiment, steps: Callable[[], int]) -> Iterator[None]:
    """Turn TensorFlow's errors of a training into DetectorError.

    Args:
        experiment: The experiment that is trained, with absolute paths.
        steps: Gives the number of steps made so far.
    """
    batch_size = experiment.task.train_data.global_batch_size
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if EXPLODED_MARK not in str(error):
            raise
        raise DetectorError(_explosion(str(error), steps(), experiment)) from None
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error) or "ENOSPC" in str(error):
            raise DetectorError("no space left on the disk: training/: free some, then invoke "
                                "train continues at the last checkpoint") from None
        raise DetectorError(f"a step of {batch_size} images does not fit into the device's memory: "
                            "detector.toml: try train.batch_size = "
                            f"{max(1, batch_size // 2)}") from None
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError) as error:
        raise DetectorError(f"another machine stopped or cannot be reached ({cause(error)}): "
                            "[runtime] in detector.toml: start invoke train on all of them again, "
                            "it continues at the last checkpoint") from None


def cause(error: Exception) -> str:
    """Return the line of TensorFlow's long text that says what happened.

    That is the last one that names no place in code.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(PLACES)]
    return said[-1][:160] if said else type(error).__name__


def _explosion(text: str, steps: int, experiment) -> str:
    """Name the images of the batch; `text` is the error of `check_loss`."""
    pattern = re.escape(EXPLODED_MARK) + r"\W*\[([\d ]*)\]\W*loss\W*([-\w.+]+)"
    numbers, loss = re.search(pattern, text).groups()
    wanted = {int(number) for number in numbers.split()}
    files = sorted(map(Path, tf.io.gfile.glob(experiment.task.train_data.input_path)))
    names = [name for number, name in enumerate(record_names(files)) if number in wanted]
    shown = ", ".join(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        shown += f" and {len(names) - MOST_NAMES} more"
    schedule = experiment.trainer.optimizer_config.learning_rate.get().as_dict()
    rate = schedule.get("initial_learning_rate")
    lower = f" (it is {rate})" if rate else ""
    return (f"the loss is {loss} at step {steps + 1:,}: images of that batch: {shown}: look at "
            f"their boxes with invoke preview, or try a lower train.learning_rate{lower} or a "
            "larger train.batch_size in detector.toml; the last checkpoint is as it was")
