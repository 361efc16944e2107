"""Where files lie in a project.

Only `steps/`, `tools/` and `core/` know these places; what they call takes values, or the path of
one file. Who moves a file changes it here, and in the patterns of `tasks.py`.
"""

from dataclasses import dataclass
from itertools import count
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The files of the project in the folder `root`; properties name paths and read nothing."""

    root: Path

    def shown(self, path: Path) -> str:
        """Return `path` as messages and state files name it: relative to the project, POSIX."""
        inside = path.is_relative_to(self.root)
        return path.relative_to(self.root).as_posix() if inside else str(path)

    # Images and their labels: images/{train,validation,test}/NAME.jpg with NAME.xml.

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def openimages(self) -> Path:
        return self.root / "images/source/openimages"

    @property
    def demo(self) -> Path:
        return self.root / "images/source/demo"

    def unused_previous_images(self) -> Path:
        """Return the folder for images that make way for those of another source, a new one."""
        names = (f"previous_{number}" if number > 1 else "previous" for number in count(1))
        return next(path for name in names if not (path := self.images / name).exists())

    # Annotations: what is known of the images, and what training reads.

    @property
    def annotations(self) -> Path:
        return self.root / "annotations"

    @property
    def manifest(self) -> Path:
        return self.root / "annotations/organize.json"

    @property
    def split(self) -> Path:
        return self.root / "annotations/split.csv"

    @property
    def check(self) -> Path:
        return self.root / "annotations/check.json"

    @property
    def fixes(self) -> Path:
        return self.root / "annotations/fixes.json"

    @property
    def label_map(self) -> Path:
        return self.root / "annotations/label_map.pbtxt"

    def table(self, split: str) -> Path:
        """Return the path of the box table of a split."""
        return self.root / f"annotations/{split}_labels.csv"

    def records(self, split: str) -> list[Path]:
        """Return the TFRecord files of a split that are there, in order of their number."""
        return sorted(self.annotations.glob(f"{split}.record-*-of-*"))

    # Weights, the experiment and its checkpoints.

    @property
    def weights(self) -> Path:
        return self.root / "pre_trained_model"

    def pretrained(self, model_id: str) -> Path:
        """Return the prefix of the checkpoint with the pre-trained weights of a model."""
        return self.weights / model_id / "weights"

    def pretrained_facts(self, model_id: str) -> Path:
        """Return the path of the file that says where the pre-trained weights come from."""
        return self.weights / model_id / "weights.json"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def experiment(self) -> Path:
        return self.root / "training/experiment.yaml"

    @property
    def configured(self) -> Path:
        return self.root / "training/configured.json"

    @property
    def run(self) -> Path:
        return self.root / "training/run.json"

    # What the trained detector scores.

    @property
    def eval(self) -> Path:
        return self.root / "eval"

    @property
    def metrics(self) -> Path:
        return self.root / "eval/metrics.json"

    @property
    def analysis(self) -> Path:
        return self.root / "eval/analysis.json"

    @property
    def detections(self) -> Path:
        return self.root / "eval/detections.json"

    @property
    def groundtruth(self) -> Path:
        return self.root / "eval/groundtruth.json"

    @property
    def runs(self) -> Path:
        return self.root / "eval/runs"

    # What is shipped.

    @property
    def inference(self) -> Path:
        return self.root / "inference"

    @property
    def saved_model(self) -> Path:
        return self.root / "inference/saved_model"

    @property
    def tflite(self) -> Path:
        return self.root / "tflite"

    def variant(self, name: str) -> Path:
        """Return the path of a `.tflite` variant such as `int8`."""
        return self.root / f"tflite/detector_{name}.tflite"

    @property
    def tflite_metrics(self) -> Path:
        return self.root / "tflite/metrics.json"

    @property
    def pyproject(self) -> Path:
        return self.root / "pyproject.toml"
