"""The step organize: what comes into `images/` from a folder of Pascal VOC."""

import io

import pytest
from PIL import Image

from scripts.core.text import DetectorError
from scripts.data.formats.voc import read_voc


def test_images_are_paired_in_any_layout_and_any_case(project):
    project.add("beside/a.JPG")
    project.add("VOC/JPEGImages/b.jpeg", label="VOC/Annotations/b.xml")
    project.add("deep/er/c.png", data=project.bytes_of("c", form="PNG"))
    counts = project.organize()
    assert sorted(project.splits()) == ["a", "b", "c"]
    assert counts.startswith("3 images ") and "3 boxes" in counts and "error" not in counts
    assert project.find("a.jpg").read_bytes() == project.bytes_of("beside/a.JPG")  # bytes are kept


def test_each_split_folder_has_its_own_annotations(project):
    for split in ("train", "test"):
        project.add(f"{split}/images/1.jpg", [(split, (1, 1, 9, 9))], label=f"{split}/labels/1.xml")
    project.add("train/images/2.jpg", label="train/labels/2.xml")
    counts = project.organize()
    assert "error" not in counts
    names = {path.stem: read_voc(path).boxes[0].class_name
             for path in (project.root / "images").rglob("*_1.xml")}
    assert names == {"train_images_1": "train", "test_images_1": "test"}


def test_two_candidates_are_an_error_and_not_a_guess(project):
    project.add("good.jpg")
    project.add("JPEGImages/a.jpg", label="Annotations/a.xml")
    (project.source / "Old").mkdir()
    (project.source / "Old/a.xml").write_text(project.text_of("a.jpg", []))
    project.add("b.jpg")
    project.add("b.png", data=project.bytes_of("other", form="PNG"))
    project.organize()
    assert sorted(project.splits()) == ["good"]
    assert [(code, file)
            for code, file, _ in project.findings()] == [("E020", "JPEGImages/a.jpg"),
                                                         ("E020", "b.xml")]


@pytest.mark.parametrize(
    ("unlabeled", "stored", "found"),
    [("error", ["a"], ["E012"]), ("skip", ["a"], []), ("negative", ["a", "b"], [])],
)
def test_images_without_label_file(project, unlabeled, stored, found):
    project.add("a.jpg")
    project.add("b.jpg", None)
    project.organize(unlabeled=unlabeled)
    assert sorted(project.splits()) == stored
    assert [code for code, _, _ in project.findings()] == found
    if "b" in stored:
        assert read_voc(project.find("b.xml")).boxes == ()


def test_a_label_file_without_image_and_other_xml(project):
    project.add("a.jpg")
    (project.source / "lost.xml").write_text(project.text_of("lost.jpg", []))
    (project.source / "config.xml").write_text("<module/>")
    project.organize()
    assert project.findings() == [("E009", "lost.xml", 0), ("W111", "config.xml", 1)]


def test_sizes_names_and_extensions_are_repaired(project):
    text = project.text_of("no_extension", [("apple", (1, 1, 9, 9))], (0, 0))
    project.add("a.jpg", data=project.bytes_of("a", form="PNG"), text=text)
    project.add("b.jpg", declared=None)
    project.add("c.jpg", declared=(999, 9))
    counts = project.organize()
    voc = read_voc(project.find("a.xml"))
    assert (voc.image, voc.width_px, voc.height_px) == ("a.png", 60, 40)
    found = [(code, file) for code, file, _ in project.findings()]
    assert found == [("R201", "a.xml"), ("R201", "b.xml"), ("R202", "c.xml"), ("R203", "a.jpg"),
                     ("R208", "a.xml")]
    assert counts.endswith("; for check: 5 repaired")


def test_images_that_cannot_be_used_are_named_with_the_reason(project):
    project.add("good.jpg")
    whole = project.bytes_of("x", (200, 200))
    heic = b"\0\0\0\x18ftypheic" + b"\0" * 40
    for name, data in {"cut.jpg": whole[:-40], "empty.jpg": b"", "text.jpg": b"hello",
                       "phone.heic": heic}.items():
        project.add(name, data=data)
    project.organize()
    assert [found[:2] for found in project.findings()] == [
        ("E010", name) for name in ("cut.jpg", "empty.jpg", "phone.heic", "text.jpg")
    ]
    assert sorted(project.splits()) == ["good"]


@pytest.mark.parametrize(("form", "stored"),
                         [("WEBP", "a.jpg"), ("TIFF", "a.png"), ("BMP", "a.png"), ("GIF", "a.png")])
def test_other_formats_are_re_encoded_and_counted(project, form, stored):
    project.add("a.jpg", data=project.bytes_of("a", form=form))
    counts = project.organize()
    image = Image.open(project.find(stored))
    assert (image.format, image.size) == ({"a.jpg": "JPEG", "a.png": "PNG"}[stored], (60, 40))
    assert [code for code, _, _ in project.findings()] == ["R204"] and "1 re-encoded" in str(counts)


def upright_pixels(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("turn", [2, 3, 4, 5, 6, 7, 8])
def test_displayed_turns_the_pixels_as_viewers_do(project, turn):
    from PIL import ImageOps

    data = project.bytes_of("a", form="PNG", exif=turn)
    project.add("a.png", data=data, declared=(40, 60) if turn > 4 else (60, 40))
    project.organize(exif="displayed")
    stored = Image.open(project.find("a.png"))
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert stored.tobytes() == wanted.tobytes() and stored.getexif().get(0x0112, 1) == 1
    voc = read_voc(project.find("a.xml"))
    assert (voc.width_px, voc.height_px) == stored.size
    assert [code for code, _, _ in project.findings()] == ["R205"]


def test_exif_needs_a_decision_unless_it_was_made(project):
    project.add("a.jpg", data=project.bytes_of("a", exif=6), declared=(40, 60))
    project.organize()
    assert project.findings() == [("E007", "a.jpg", 0)]
    kept = project.find("a.jpg").read_bytes()
    # the label file's size tells that the boxes were drawn on the other view
    project.organize(exif="stored")
    assert project.findings() == [("W109", "a.xml", 4)]
    assert project.find("a.jpg").read_bytes() == kept
    project.organize(exif="displayed")
    assert [code for code, _, _ in project.findings()] == ["R205"]
    assert Image.open(project.find("a.jpg")).size == (40, 60)
    project.add("a.jpg", data=project.bytes_of("a", exif=6), declared=(60, 40))
    project.organize(exif="displayed")
    assert [code for code, _, _ in project.findings()] == ["R205", "W109"]


def test_malformed_exif_is_no_turn(project):
    data = project.bytes_of("a", exif=6)
    for index, name in enumerate(("II*\0\x08\0\0\0\xff\xff", "garbage")):
        start = data.index(b"Exif\0\0") + 6
        broken = data[:start] + name.encode("latin-1") + data[start + len(name) :]
        project.add(f"{index}.jpg", data=broken + bytes(index))
    for kind in (b"\2", b"\5", b"\7"):  # the tag as a text, a fraction, bytes
        project.add(f"kind{kind[0]}.jpg", data=data.replace(b"\x01\x12\0\3", b"\x01\x12\0" + kind))
    assert data.count(b"\x01\x12\0\3") == 1
    project.organize()
    assert {code for code, _, _ in project.findings()} == {"R216"}  # one photograph, five times


def test_equal_names_become_distinct_and_stay(project):
    for path in ("x/a.jpg", "y/A.jpg", "b c#%20é.jpg"):
        project.add(path)
    counts = project.organize()
    assert sorted(project.splits()) == ["b c#%20é", "x_a", "y_A"] and "2 renamed" in str(counts)
    project.add("z/b c#%20é.jpg")
    project.organize()
    assert sorted(project.splits()) == ["b c#%20é", "x_a", "y_A", "z_b c#%20é"]


def test_equal_images_are_kept_once_and_other_boxes_are_told(project):
    data = project.bytes_of("same")
    project.add("a.jpg", data=data)
    project.add("b.jpg", data=data)
    project.add("c.jpg", [("apple", (1, 1, 9, 9))], data=data)
    project.organize()
    assert sorted(project.splits()) == ["a"]
    assert [found[:2] for found in project.findings()] == [("R207", "b.jpg"), ("W107", "c.xml")]


def test_of_equal_images_the_labeled_one_is_kept(project):
    project.add("a.jpg", None, data=project.bytes_of("same"))
    project.add("b.jpg", data=project.bytes_of("same"))
    project.organize(unlabeled="negative")
    assert sorted(project.splits()) == ["b"]
    assert [found[:2] for found in project.findings()] == [("R207", "a.jpg")]


def test_broken_boxes_come_through_as_they_are(project):
    boxes = [("apple", (30, 20, 5, 5)), ("apple", ("x", 1, 2, 3)), ("apple", (-5, 0, 99, "12,5"))]
    project.add("a.jpg", boxes)
    project.organize()
    stored = [box.xyxy_px for box in read_voc(project.find("a.xml")).boxes]
    assert stored[0] == (30, 20, 5, 5) and str(stored[1][0]) == "nan"
    assert stored[2] == (-5, 0, 99, 12.5)


@pytest.mark.parametrize(
    ("path", "words"), [("", "source.path is empty"), ("../nowhere", "does not exist"),
                        (".", "images/ itself"), ("../source", "no .jpg"),
                        ("../source/file", "is a file")]
)  # fmt: skip
def test_unusable_sources_are_one_line(project, path, words):
    (project.source / "file").write_text("")
    with pytest.raises(DetectorError, match=words) as caught:
        project.organize(path=path)
    assert "\n" not in str(caught.value) and "detector.toml" in str(caught.value)


def test_images_without_any_label_file_are_one_line(project):
    project.add("a.jpg", None)
    with pytest.raises(DetectorError, match="no label file .* for 1 image:"):
        project.organize()


def test_an_image_without_its_end_mark_is_written_anew(project):
    data = project.bytes_of("a", (200, 200))
    project.add("a.jpg", data=data[:-2], size=(200, 200))
    project.add("b.png", data=project.bytes_of("b", form="PNG")[:-12])
    counts = project.organize()
    assert [found[:2] for found in project.findings()] == [("R217", "a.jpg"), ("R217", "b.png")]
    assert "2 re-encoded" in str(counts)
    assert project.find("a.jpg").read_bytes().endswith(b"\xff\xd9")
