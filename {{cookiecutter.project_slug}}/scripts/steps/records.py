"""The step `records`: write `annotations/{split}.record-NNNNN-of-NNNNN`, which training reads."""

import os
import tempfile
from pathlib import Path

from scripts.core.layout import Layout
from scripts.core.text import DetectorError, counted
from scripts.data.box_table import read_table
from scripts.data.dataset import SPLITS
from scripts.data.examples import plan_files, write_files
from scripts.data.label_map import read_label_map
from scripts.data.manifest import read_manifest


def records(root: Path, processes: int | None = None) -> str:
    """Write the record files of all splits; the same input gives the same bytes.

    Args:
        root: the folder of the project.
        processes: None uses one for each core when many images have to be decoded, else one.

    Raises:
        DetectorError: for a class without an id, and a missing or changed image. The older files
            then stay.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    layout = Layout(root)
    ids = {name: number for number, name in read_label_map(layout.label_map).items()}
    tables = {split: read_table(layout.table(split), layout.images / split) for split in SPLITS}
    if not tables["train"]:
        raise DetectorError(f"no images to train on: {layout.shown(layout.table('train'))}: "
                            "add images, then `invoke organize`")
    plan = plan_files(tables, _decoded(read_manifest(layout.manifest)))

    # All files are written and read back before the first one replaces an older one.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=layout.annotations) as folder:
        images, boxes = write_files(Path(folder), plan, ids, processes)
        for name, _ in plan:
            os.replace(Path(folder) / name, layout.annotations / name)
    names = {name for name, _ in plan}
    for split in SPLITS:
        for path in layout.records(split):
            if path.name not in names:
                path.unlink()
    return (f"{counted(images, 'image')}, {counted(boxes, 'box', 'boxes')} in "
            f"{counted(len(plan), 'file')}, read back")


def _decoded(manifest: dict) -> dict[tuple[str, int, int], str]:
    """Return the SHA-256 of images that organize has decoded, by name, width and height in pixels.

    The others are decoded here, so that nothing broken waits in the middle of training.
    """
    return {(entry["name"], entry["width"], entry["height"]): entry["image_sha256"]
            for entry in manifest["images"] if entry.get("complete") and entry.get("image_sha256")}
