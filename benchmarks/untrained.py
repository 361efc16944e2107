"""AP of a model that was never trained (ImageNet backbone, fresh head) on the test split of a
project.

python -m benchmarks.untrained PROJECT: a demo on which this is not near zero would test nothing.
"""

import os
import sys
from pathlib import Path


def main(project: Path) -> None:
    """Print the table of classes."""
    os.chdir(project)
    sys.path.insert(0, str(project))
    from scripts.core.layout import Layout
    from scripts.data.label_map import read_label_map
    from scripts.evaluation.detections import coco_groundtruth, record_images
    from scripts.evaluation.detector import TrainedModel, checkpoint_detections
    from scripts.evaluation.intervals import ap_intervals
    from scripts.evaluation.metrics import score, table_text
    from scripts.modeling.experiment import read_experiment, with_absolute_paths
    from scripts.training.task import DetectorTask

    task = DetectorTask(
        with_absolute_paths(read_experiment(project / "training/experiment.yaml"), project).task)
    network = task.build_model()
    task.initialize(network)
    model = TrainedModel(network, task.task_config.model, "untrained")
    layout = Layout(project)
    files = layout.records("test")
    detections = list(checkpoint_detections(model, record_images(files), 0.0, 100))
    groundtruth = coco_groundtruth(files, read_label_map(layout.label_map))
    print(table_text(score(groundtruth, detections), ap_intervals(groundtruth, detections)))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
