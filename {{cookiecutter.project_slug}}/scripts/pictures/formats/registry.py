"""The label formats that are read: which modules may read a file, and the file as the first of them reads it."""

from collections.abc import Callable
from pathlib import Path

from scripts.pictures.dataset import LabelError, LabelFile, NotALabelError
from scripts.pictures.formats import coco, labelstudio, oidv4, table, voc, yolo

# A reader takes a path and returns a LabelFile; NotALabelError when the file is of another format.
READERS: dict[str, tuple[str, Callable[[Path], LabelFile]]] = {
    "voc": (".xml", voc.read),
    "coco": (".json", coco.read),
    "labelstudio": (".json", labelstudio.read),
    "csv": (".csv", table.read),
    # Before yolo: an empty file in a folder `Label` is one of OIDv4_ToolKit.
    "oidv4": (".txt", oidv4.read),
    "yolo": (".txt", yolo.read),
}


def read_label_file(task: tuple[str, str]) -> LabelFile:
    """The content of a label file, for a process pool: `task` is (path, `source.format`).

    Of no known format: a LabelFile with the format "" whose `error` says why.
    """
    path, wanted = Path(task[0]), task[1]
    reasons, line = [], 0
    for name, (suffix, read) in READERS.items():
        if wanted not in ("auto", name) or path.suffix.lower() != suffix:
            continue
        try:
            return read(path)
        except NotALabelError as error:
            reasons.append(str(error))
            line = line or error.line
        except LabelError as error:
            return LabelFile(path, name, error=str(error), error_line=error.line)
        except OSError as error:
            return LabelFile(path, name, error=f"cannot be opened: {error.strerror}")
    return LabelFile(path, "", error="; ".join(reasons), error_line=line)
