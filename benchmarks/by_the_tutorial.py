"""From label files to `.record` as TensorFlow's tutorials have it: the way that benchmarks compare
ours with.

Written from the description: ElementTree by position, one pandas table, its groups by file name, a
`tf.train.Example` an image, one writer, one process. It verifies nothing.
"""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

COLUMNS = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]


def xml_to_csv(folder: Path, table: Path) -> None:
    """One row a box from the label files of `folder`. Relies on labelImg's order of tags."""
    import pandas

    rows = []
    for path in sorted(folder.glob("*.xml")):
        root = ElementTree.parse(path).getroot()
        size = root.find("size")
        for member in root.findall("object"):
            corners = member[4]
            rows.append((root.find("filename").text, int(size[0].text), int(size[1].text),
                         member[0].text,
                         *(int(corners[at].text) for at in range(4))))  # fmt: skip
    pandas.DataFrame(rows, columns=COLUMNS).to_csv(table, index=None)


def csv_to_record(table: Path, folder: Path, record: Path, ids: dict[str, int]) -> None:
    """All images of a table in one record file."""
    import pandas
    import tensorflow as tf

    examples = pandas.read_csv(table)
    groups = examples.groupby("filename")
    with tf.io.TFRecordWriter(str(record)) as writer:
        for filename in groups.groups:
            writer.write(
                _example(groups.get_group(filename), filename, folder, ids).SerializeToString())


def _example(group, filename: str, folder: Path, ids: dict[str, int]):
    import tensorflow as tf
    from PIL import Image

    with tf.io.gfile.GFile(str(folder / filename), "rb") as file:
        encoded = file.read()
    width, height = Image.open(io.BytesIO(encoded)).size
    corners = {"xmin": [], "xmax": [], "ymin": [], "ymax": []}
    texts, labels = [], []
    for _, row in group.iterrows():
        for key, values in corners.items():
            values.append(row[key] / (width if key[0] == "x" else height))
        texts.append(row["class"].encode("utf8"))
        labels.append(ids[row["class"]])

    def of_bytes(values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def of_integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def of_floats(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    name = filename.encode("utf8")
    features = {
        "image/height": of_integers([height]),
        "image/width": of_integers([width]),
        "image/filename": of_bytes([name]),
        "image/source_id": of_bytes([name]),
        "image/encoded": of_bytes([encoded]),
        "image/format": of_bytes([b"jpg"]),
        "image/object/class/text": of_bytes(texts),
        "image/object/class/label": of_integers(labels),
    }
    features |= {f"image/object/bbox/{key}": of_floats(values) for key, values in corners.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))
