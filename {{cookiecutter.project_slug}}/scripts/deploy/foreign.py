"""A detector of somebody else, run by our clock and scored by our scorer: SSD, EfficientDet-Lite and their like.

Our own files keep the strict contract of `reader.py`. Here the roles of input and outputs are found, and `notes` says
in words what was found, since a wrong guess would look like a bad detector.
"""

from pathlib import Path

from scripts.deploy.foreign_input import given_normalization, input_form, plan_input
from scripts.deploy.foreign_labels import label_files, read_labels, without_background
from scripts.deploy.post_process import anchors, post_process_options, rows_each
from scripts.deploy.reader import TfliteDetector, first_slots
from scripts.deploy.roles import ROLES, box_edges, find_roles
from scripts.deploy.tflite_file import read_tflite, whole
from scripts.evaluation.detections import Detections
from scripts.pipeline.errors import DetectorError

FRACTIONS_UP_TO = 1.5
"""Anchors in fractions of the picture have their centre inside it; those in pixels reach its last pixel."""


class ForeignDetector(TfliteDetector):
    """Any `.tflite` detector with a fixed input and boxes, classes, scores and count as outputs, in whatever order.

    `mean` and `std` are texts such as `127.5` or `123.7,116.3,103.5`, "" for what the metadata says; `labels` a file
    of class names, None for those inside. `notes` are sentences on what was decided. DetectorError for a file that
    cannot be scored, with the reason.
    """

    advice = "give a .tflite that LiteRT can run on the CPU"

    def __init__(self, path: Path, threads: int = 2, mean: str = "", std: str = "", labels: Path | None = None):
        self._given = given_normalization(mean, std)
        self.file = read_tflite(path)
        with whole(path):
            input_form(self.file)  # What has no fixed size may not even load.
        super().__init__(path, threads)
        with whole(path):
            self._plan = plan_input(self.file, self._given)
            self.notes = [self._plan.note, f"outputs: told by {self._roles.how}"]
            self._edges, self._scale_px = box_edges(self.file), self._boxes_in_pixels()
            self._rows_each = rows_each(self.file)
            self._labels = self._find_labels(labels)

    @property
    def labels(self) -> list[str]:
        """Class names by the class id of the file."""
        return self._labels

    def pixels(self, rgb):
        """What the input tensor gets of a picture uint8 [height, width, 3]: see `InputPlan`."""
        return self._plan.values(rgb)

    def detect(self, rgb) -> Detections:
        """Detections in a picture uint8 [height, width, 3], best first; `class_ids` are those of the file."""
        import numpy as np

        self.prepare(rgb)
        self.invoke()
        boxes, classes, scores, count = (self._real(index) for index in self._outputs)
        each, filled = self._rows_each
        classes, scores = (part.reshape(-1, each)[:, :filled].reshape(1, -1) for part in (classes, scores))
        boxes = boxes.reshape(-1, each, 4)[:, :filled].reshape(1, -1, 4)
        found = first_slots(boxes, classes, scores, count * filled)
        order = np.argsort(-found.scores, kind="stable")
        boxes = found.yxyx_norm[order][:, self._edges] / np.float32([*self._scale_px, *self._scale_px])
        return Detections(boxes, found.class_ids[order], found.scores[order])

    def _real(self, index: int):
        """The real numbers of an output."""
        import numpy as np

        values = self._interpreter.get_tensor(index)
        if not np.issubdtype(values.dtype, np.integer):
            return values.astype(np.float32)
        scale, zero_point = self._details[index]["quantization"]
        # Class ids may be plain whole numbers: without a scale they stand for themselves.
        return (values.astype(np.float32) - zero_point) * scale if scale else values.astype(np.float32)

    def _only_input(self) -> dict:
        return self._interpreter.get_input_details()[0]

    def _reading(self):
        """Tensor indices of boxes, classes, scores and count; `detect` reads them by itself."""
        self._details = {one["index"]: one for one in self._interpreter.get_output_details()}
        shapes = {index: tuple(int(side) for side in one["shape"]) for index, one in self._details.items()}
        with whole(self.path):
            self._roles = find_roles(self.file, shapes)
        return [getattr(self._roles, role) for role in ROLES], None

    def _boxes_in_pixels(self) -> tuple[float, float]:
        """By what to divide y and x of boxes: 1, or the sides of the input where the anchors are in its pixels."""
        values = anchors(self.file)
        if values is None or values[:, :2].max(initial=0) <= FRACTIONS_UP_TO:
            return 1.0, 1.0
        self.notes.append("boxes: in pixels of the input, as its anchors are; clients expect fractions")
        height_px, width_px = self._plan.size_px
        return float(height_px), float(width_px)

    def _find_labels(self, path: Path | None) -> list[str]:
        inside = label_files(self.file)
        labels = read_labels(path) if path else next(iter(inside.values()), [])
        if not labels:
            raise DetectorError(f"no labels inside: {self.path}: give them with --labels FILE, one class name a line")
        labels, note = without_background(labels, post_process_options(self.file).get("num_classes"))
        self.notes += [note] if note else []
        return labels
