"""What TensorBoard shows of the test split: `eval/tensorboard/`."""

from pathlib import Path

SCALARS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def write_events(root: Path, metrics: dict, groundtruth: dict, detections: list[dict]) -> None:
    """The figures of `eval/metrics.json`, and by class and in pictures, at the step of the checkpoint."""
    import tensorflow as tf

    from scripts.evaluation.scorer import evaluated
    from scripts.records.records import record_files
    from scripts.training.events import EvaluationEvents

    step = int(metrics["checkpoint"].rsplit("-", 1)[1])
    writer = tf.summary.create_file_writer(str(root / "eval/tensorboard"))
    with writer.as_default(step=step):
        for name in SCALARS:
            if metrics[name] is not None:
                tf.summary.scalar(f"test/{name}", metrics[name])
    names = {category["id"]: category["name"] for category in groundtruth["categories"]}
    events = EvaluationEvents("test", names, record_files(root, "test"))
    events.write(writer, step, evaluated(groundtruth, detections))
    writer.close()
