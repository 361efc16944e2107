"""Detectors of others: which output is which, what the input gets, which classes are ours."""

from itertools import permutations

import numpy as np
import pytest
from made_tflite import BLUE, GREEN, HEIGHT, RED, ROLES, WIDTH, described, made

from scripts.core.text import DetectorError
from scripts.deploy.third_party import ThirdPartyDetector
from scripts.deploy.third_party_classes import class_map, read_labels, without_background

NAMES = ["red", "green", "blue"]
SIGNATURE = {"detection_scores": "scores", "num_detections": "count", "detection_boxes": "boxes",
             "detection_classes": "classes"}  # fmt: skip


def write(folder, data, name="other.tflite"):
    (folder / name).write_bytes(data)
    return folder / name


def image(lit: dict, scale: int = 1):
    """Black but for pixels (row, column): (class, value), each enlarged to `scale` pixels a side.
    """
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for (row, column), (class_id, value) in lit.items():
        rgb[row, column, class_id] = value
    return rgb.repeat(scale, 0).repeat(scale, 1)


def seen(path, lit, **options):
    """What the detector says of an image: {(row, column): (class id, score)}; the box must lie on
    its pixel."""
    found = ThirdPartyDetector(path, **options).detect(image(lit))
    cells = {}
    for (ymin, xmin, ymax, xmax), class_id, score in zip(
        found.yxyx_norm, found.class_ids, found.scores, strict=True):
        row, column = round(float(ymin) * HEIGHT), round(float(xmin) * WIDTH)
        assert (ymin, xmin, ymax, xmax) == pytest.approx(
            (row / HEIGHT, column / WIDTH, (row + 1) / HEIGHT, (column + 1) / WIDTH), abs=0.01)
        cells[row, column] = int(class_id), float(score)
    assert list(found.scores) == sorted(found.scores, reverse=True)
    return cells


LIT = {(0, 0): (RED, 255), (1, 2): (BLUE, 204), (0, 1): (GREEN, 102)}
EXPECTED = {(0, 0): (RED, 1.0), (1, 2): (BLUE, 0.8), (0, 1): (GREEN, 0.4)}


def same(cells, expected=EXPECTED, tolerance=0.005):
    assert {place: class_id for place, (class_id, _) in cells.items()} == {
        place: class_id for place, (class_id, _) in expected.items()}
    for place, (_, score) in expected.items():
        assert cells[place][1] == pytest.approx(score, abs=tolerance)


@pytest.mark.parametrize("order", list(permutations(ROLES)), ids="-".join)
@pytest.mark.parametrize("quantized", [None, np.uint8, np.int8])
def test_outputs_are_found_in_any_order_and_in_any_numbers(tmp_path, order, quantized):
    path = write(tmp_path, described(made(order=order, quantized=quantized), NAMES))
    same(seen(path, LIT))
    assert "TFLite_Detection_PostProcess" in ThirdPartyDetector(path).notes[1]


def test_the_operation_is_believed_more_than_names(tmp_path):
    crossed = dict(zip(SIGNATURE, ("classes", "count", "boxes", "scores"), strict=True))
    path = write(tmp_path, described(made(signature=crossed), NAMES))
    same(seen(path, LIT))
    assert "against the names in the signature" in ThirdPartyDetector(path).notes[1]


@pytest.mark.parametrize(
    ("wishes", "names", "how"),
    [
        ({"signature": SIGNATURE, "order": ("scores", "boxes", "count", "classes")},
         ("a", "b", "c", "d"), "signature"),
        ({"order": ("count", "scores", "classes", "boxes")},
         ("number of detections", "score", "category", "location"), "metadata"),
        ({"order": ("scores", "boxes", "count", "classes"),
          "names": {"boxes": "TFLite_Detection_PostProcess",
                    "classes": "TFLite_Detection_PostProcess:1",
                    "scores": "TFLite_Detection_PostProcess:2",
                    "count": "TFLite_Detection_PostProcess:3"}},
         ("a", "b", "c", "d"), "tensors"),
        ({"order": ROLES, "names": dict(zip(ROLES, "wxyz", strict=True))}, ("a", "b", "c", "d"),
         "shapes"),
    ],
)  # fmt: skip
def test_without_the_operation_names_tell_then_shapes(tmp_path, wishes, names, how):
    model = made(with_operation=False, **wishes)
    detector = ThirdPartyDetector(write(tmp_path, described(model, NAMES, outputs=names)))
    order = wishes["order"]
    outputs = [int(one["index"]) for one in detector._interpreter.get_output_details()]
    roles = dict(zip(ROLES, detector._outputs, strict=True))
    assert [roles[role] for role in order] == outputs and how in detector.notes[1]
    assert len(detector.detect(image({}))) == 1, "one number says how many of the six slots count"


@pytest.mark.parametrize(
    ("wishes", "metadata", "options", "note"),
    [
        # SSD in float: normalized to -1..1, which here is the score.
        ({"kind": np.float32}, ([127.5], [127.5]), {}, "from the metadata"),
        ({"kind": np.float32}, (None, None), {"mean": "127.5", "std": "127.5"}, "as given"),
        ({"kind": np.float32}, ([0.0], [1.0]),
         {"mean": "127.5,127.5,127.5", "std": "127.5,127.5,127.5"}, "as given"),
        # The same quantized: the raw pixel, or in int8 the pixel less 128.
        ({"kind": np.uint8, "scale": 1 / 127.5, "zero_point": 128}, (None, None), {}, "raw pixels"),
        ({"kind": np.uint8, "scale": 1 / 127.5, "zero_point": 127}, ([127.0], [127.5]), {},
         "raw pixels"),
        ({"kind": np.int8, "scale": 1 / 127.5, "zero_point": -1}, ([127.5], [127.5]), {},
         "from the metadata"),
        ({"kind": np.int8, "scale": 1 / 127.5, "zero_point": 0}, (None, None), {}, "pixel - 128"),
        # An input that means 0..2 and not -1..1: only its own quantization gives the right numbers.
        ({"kind": np.int8, "scale": 1 / 64, "zero_point": -70}, ([127.5], [127.5]), {},
         "from the metadata"),
        ({"kind": np.uint8, "scale": 1 / 100, "zero_point": 100}, (None, None),
         {"mean": "127.5", "std": "127.5"},
         "as given"),
    ],
)  # fmt: skip
def test_the_input_gets_normalized_pixels(tmp_path, wishes, metadata, options, note):
    path = write(tmp_path, described(made(**wishes), NAMES, *metadata))
    expected = {(0, 0): (RED, 1.0), (1, 2): (BLUE, 0.6)}
    same(seen(path, LIT, **options), expected, tolerance=0.02)
    assert note in ThirdPartyDetector(path, **options).notes[0]


def test_an_image_is_stretched_to_an_input_that_is_not_square(tmp_path):
    path = write(tmp_path, described(made(), NAMES))
    found = ThirdPartyDetector(path).detect(image(LIT, scale=60))
    assert sorted(found.class_ids) == [RED, GREEN, BLUE]
    red = found.yxyx_norm[list(found.class_ids).index(RED)]
    assert red == pytest.approx([0, 0, 1 / HEIGHT, 1 / WIDTH], abs=0.001)


def test_no_more_than_the_count_is_read(tmp_path):
    path = write(tmp_path, described(made(), NAMES))
    detector = ThirdPartyDetector(path)
    assert [len(detector.detect(image(lit))) for lit in (LIT, {}, {(1, 1): (RED, 255)})] == [
        3, 0, 1]
    few = ThirdPartyDetector(write(tmp_path, described(made(slots=2), NAMES)))
    assert len(few.detect(image(LIT))) == 2


@pytest.mark.parametrize("classes_each", [2, 3, 5])
def test_a_counted_detection_may_have_several_rows(tmp_path, classes_each):
    """Model Garden's exporter writes the best five classes of each box, and more than there are
    leave gaps."""
    path = write(tmp_path, described(made(classes_each=classes_each), NAMES))
    rgb = image({(0, 0): (RED, 255), (1, 1): (BLUE, 128)})
    rgb[0, 0, GREEN] = 200
    found = ThirdPartyDetector(path).detect(rgb)
    assert len(found) == 2 * min(3, classes_each)
    assert found.class_ids[:3].tolist() == [RED, GREEN, BLUE]
    assert found.scores[:3] == pytest.approx([1.0, 200 / 255, 128 / 255], abs=0.005)
    assert np.array_equal(found.yxyx_norm[0], found.yxyx_norm[1]) and (found.scores[3:] == 0).all()


def test_boxes_in_pixels_become_fractions(tmp_path):
    path = write(tmp_path, described(made(pixel_anchors=True), NAMES))
    same(seen(path, LIT))
    assert any("in pixels" in note for note in ThirdPartyDetector(path).notes)
    assert not any("in pixels" in note
                   for note in ThirdPartyDetector(write(tmp_path, described(made(), NAMES))).notes)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"free": (1, -1, -1, 3)}, r"input uint8 \[1, -1, -1, 3\] has no fixed size \(-1\)"),
        ({"shape": (1, 3, 2, 3)}, ""),
        ({"shape": (1, 3, 3, 2)}, r"is not \[1, height, width, 3\]"),
        ({"shape": (2, 1, 3, 3)}, r"is not \[1, height, width, 3\]"),
        ({"order": ("boxes", "scores")}, "2 outputs, not boxes, classes, scores and count"),
        ({"order": ("boxes",)}, "1 output, not boxes"),
        ({"kind": np.float32, "order": ("boxes",)}, "1 output, not boxes"),
        ({"kind": np.int32}, "input int32 .* is not uint8, int8 or float32"),
        ({"kind": np.float32}, "float32 input, and no metadata says how pixels are normalized"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(tmp_path, wishes, words):
    path = write(tmp_path, described(made(**wishes), NAMES))
    if not words:
        ThirdPartyDetector(path)
        return
    with pytest.raises(DetectorError, match=words) as refusal:
        ThirdPartyDetector(path)
    assert "\n" not in str(refusal.value) and str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mean": "127.5"}, "only one of --mean '127.5' and --std ''"),
        ({"mean": "a", "std": "1"}, "'a' is no number: --mean"),
        ({"mean": "0,0", "std": "1"}, "'0,0' is not one number or three: --mean"),
        ({"mean": "0", "std": "0"}, "'0' is not above 0: --std"),
        ({"mean": "nan", "std": "1"}, "'nan' is not one number or three: --mean"),
    ],
)
def test_arguments_that_are_no_normalization_are_refused(tmp_path, options, words):
    with pytest.raises(DetectorError, match=words):
        ThirdPartyDetector(write(tmp_path, described(made(), NAMES)), **options)


def test_a_file_without_labels_asks_for_them(tmp_path):
    path = write(tmp_path, made())
    with pytest.raises(DetectorError, match="no labels inside: .*--labels FILE"):
        ThirdPartyDetector(path)
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    assert ThirdPartyDetector(path, labels=tmp_path / "names.txt").labels == NAMES


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("a.txt", "person\r\nbicycle", ["person", "bicycle"]),
        ("a.txt", "0  person\n2  car\n", ["person", "???", "car"]),
        ("a.txt", "0: person\n1: traffic light\n", ["person", "traffic light"]),
        ("a.txt", "7 up\ncola\n", ["7 up", "cola"]),
        ("a.pbtxt", "item { name: '/m/01g317' id: 1 display_name: 'person' }", ["person"]),
        ("a.pbtxt", "item { id: 1 name: 'person' }\nitem { id: 3 name: 'car' }",
         ["person", "???", "car"]),
    ],
)
def test_label_files_of_all_kinds(tmp_path, name, text, labels):
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(tmp_path / name) == labels


def test_label_files_that_are_none(tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("kärntner".encode("latin-1"))
    for name, words in (
        ("empty.txt", "no labels"), ("latin.txt", "UTF-8"), ("none.txt", "cannot be opened")):
        with pytest.raises(DetectorError, match=words):
            read_labels(tmp_path / name)


def test_a_line_for_the_background_is_no_class():
    labels = ["???", "a", "b"]
    assert without_background(labels, 2) == (
        ["a", "b"], "labels: line 1, '???', is the background and no class")
    assert without_background(labels, 3) == (labels, "")
    assert without_background(labels, None) == (labels, "")
    assert "3 for 9 classes" in without_background(labels, 9)[1]


def test_the_background_line_shifts_classes_of_a_real_run(tmp_path):
    path = write(tmp_path, described(made(), ["???", *NAMES]))
    assert ThirdPartyDetector(path).labels == NAMES


def test_classes_are_paired_by_name():
    ours = {1: "Traffic Light", 2: "cat", 5: "Cat", 6: "ﬁg tree"}
    classes = class_map(["???", "trafficlight", "CAT", "Cat", "zebra", "", "zebra", "person"], ours)
    assert classes.ids[1] == 1
    assert classes.ids[3] == 5
    assert classes.ids[2] == 2
    assert set(classes.ids) == {1, 2, 3}
    assert classes.shared == ("Traffic Light", "cat", "Cat")
    assert classes.only_in_project == ("ﬁg tree",)
    assert classes.only_in_file == ("zebra", "person")


def test_a_uint8_input_that_does_not_mean_the_pixel_is_pointed_out(tmp_path):
    odd = described(made(scale=0.0148, zero_point=77), NAMES, [123.7, 116.3, 103.5],
                    [58.4, 57.1, 57.4])
    notes = ThirdPartyDetector(write(tmp_path, odd)).notes
    assert "compare with --mean and --std" in notes[0]
    sound = described(made(scale=1 / 128, zero_point=127), NAMES, [127.0], [128.0])
    assert "compare" not in ThirdPartyDetector(write(tmp_path, sound)).notes[0]
