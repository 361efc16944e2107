"""The step organize: what comes into `images/` from a folder of Pascal VOC."""

import io
import json
from collections import Counter

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


# What a source is taken for, and which labels belong to which image, over all formats.


YOLO_LINE = "0 0.5 0.5 0.5 0.5\n"


def put(project, path: str, text: str) -> None:
    """A file of the source."""
    target = project.source / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf-8")


def coco(names: list[str], box=(5, 5, 20, 10), category: str = "apple") -> str:
    """A COCO file with one box of the category (id 0) on each image, which have ids with holes."""
    images = [{"id": 7 * index, "file_name": name, "width": 60, "height": 40}
              for index, name in enumerate(names)]
    boxes = [{"id": i, "image_id": image["id"], "category_id": 0, "bbox": box}
             for i, image in enumerate(images)]
    return json.dumps({"images": images, "annotations": boxes,
                       "categories": [{"id": 0, "name": category}]})


def boxes_of(project, name: str) -> list[tuple]:
    """Class and corners of the boxes that organize stored for an image."""
    return [(box.class_name, box.xyxy_px) for box in read_voc(project.find(f"{name}.xml")).boxes]


def test_two_formats_over_the_same_images_stop_and_are_named(project):
    for name in ("a", "b"):
        project.add(f"{name}.jpg")
        put(project, f"{name}.txt", YOLO_LINE)
    with pytest.raises(DetectorError) as caught:
        project.organize()
    words = ("2 formats label the same 2 images", "voc (../source/a.xml and 1 more)",
             '"voc" or "yolo"')
    assert all(word in str(caught.value) for word in words) and project.stored() == []
    assert "read as yolo" in str(project.organize(format="yolo"))
    assert boxes_of(project, "a") == [("class_0", (15, 10, 45, 30))]


def test_two_formats_over_different_images_are_both_read(project):
    project.add("a.jpg")
    project.add("b.jpg", None)
    put(project, "b.txt", YOLO_LINE)
    put(project, "classes.txt", "apple\n")
    counts = project.organize()
    assert "read as voc (1) and yolo (1)" in str(counts)
    assert boxes_of(project, "b") == [("apple", (15, 10, 45, 30))]


def test_a_readme_and_other_files_are_not_taken_for_labels(project):
    project.add("a.jpg")
    put(project, "README.txt", "Images of apples\n")
    put(project, "package.json", '{"name": "x"}')
    put(project, "people.csv", "name,age\nAda,36\n")
    put(project, "a.txt", "taken in the garden\n")
    project.organize()
    names = [file for code, file, _ in project.findings() if code == "W111"]
    assert names == ["a.txt", "package.json", "people.csv"] and len(project.findings()) == 3


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),  # Ultralytics
        ("train/images/a.jpg", "train/labels/a.txt"),  # Roboflow
        ("obj_train_data/a.jpg", "obj_train_data/a.txt"),  # darknet
    ],
)
def test_the_layouts_of_yolo(project, image, label):
    for split, number in (("train", 0), ("val", 1)):
        project.add(image.replace("train", split), None)
        put(project, label.replace("train", split), f"{number}{YOLO_LINE[1:]}")
    put(project, "data.yaml", "names: [train, val]\n")
    assert "error" not in project.organize()
    manifest = json.loads((project.root / "annotations/organize.json").read_text("utf-8"))
    for entry in manifest["images"]:  # each class is named as the folder of its label file
        (box,) = read_voc(project.find(f"{entry['name']}.xml")).boxes
        assert box.class_name in entry["source"] and box.class_name in entry["label"]
    assert len(manifest["images"]) == 2


def test_one_coco_file_for_each_split_by_folder_or_by_name(project):
    for split in ("train", "valid", "test"):
        project.add(f"{split}/{split}.jpg", None)
        put(project, f"{split}/_annotations.coco.json", coco([f"{split}.jpg"]))
    project.organize()
    assert project.splits() == {"train": "train", "valid": "validation", "test": "test"}
    assert boxes_of(project, "valid") == [("apple", (5, 5, 25, 15))]


def test_splits_that_only_the_names_of_the_tables_tell(project):
    rows = []
    for index in range(6):
        project.add(f"images/{index}.jpg", None)
        rows.append(f"{index}.jpg,60,40,apple,5,5,25,15")
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    put(project, "data/all_labels.csv", head + "\n".join(rows))
    put(project, "data/train_labels.csv", head + "\n".join(rows[:4]))
    put(project, "data/test_labels.csv", head + "\n".join(rows[4:]))
    project.organize()
    splits = project.splits()
    assert splits["4"] == splits["5"] == "test"
    assert Counter(splits.values()) == {"train": 3, "validation": 1, "test": 2}
    assert Counter(code for code, _, _ in project.findings()) == {"R209": 6}


def test_an_image_with_other_boxes_in_a_second_table_is_an_error(project):
    project.add("a.jpg", None)
    project.add("b.jpg", None)
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    put(project, "one.csv", head + "a.jpg,apple,5,5,25,15\nb.jpg,apple,1,1,9,9\n")
    put(project, "two.csv", head + "a.jpg,apple,6,5,25,15\n")
    project.organize()
    assert project.findings() == [("E020", "a.jpg", 0)] and sorted(project.splits()) == ["b"]


def test_labels_without_image_are_named_with_their_line(project):
    project.add("a.jpg", None)
    put(project, "x.csv",
        "filename,class,xmin,ymin,xmax,ymax\na.jpg,apple,5,5,25,15\nlost.jpg,apple,1,1,9,9\n")
    project.organize()
    assert project.findings() == [("E009", "x.csv", 3)]


@pytest.mark.parametrize(
    "stated",
    [r"C:\work\images\my photo.jpg", "my%20photo.jpg", "../some/where/my photo.jpg", "my photo",
     "MY PHOTO.JPG"],
)
def test_images_are_found_however_the_table_writes_their_path(project, stated):
    project.add("my photo.jpg", None)
    put(project, "x.csv", f"filename,class,xmin,ymin,xmax,ymax\n{stated},apple,5,5,25,15\n")
    counts = project.organize()
    assert "1 box," in counts and "error" not in counts


def test_the_prefix_of_label_studio_is_seen_through(project):
    project.add("photo.jpg", None)
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["apple"]}
    result = [{"type": "rectanglelabels", "value": value, "original_width": 60,
               "original_height": 40}]
    task = {"data": {"image": "/data/upload/3/e1c994fe-photo.jpg"},
            "annotations": [{"id": 1, "result": result}]}
    put(project, "export.json", json.dumps([task]))
    project.organize()
    assert boxes_of(project, "photo") == [("apple", (6, 4, 36, 24))]
    assert [code for code, _, _ in project.findings()] == ["R214"]


def test_copies_of_oidv4_become_one_image_with_all_boxes(project):
    data = project.bytes_of("same")
    for name, line in (("Apple", "Apple 1 2 30 20\n"),
                       ("Bell pepper", "Bell pepper 5.5 5 50 39.9\n")):
        project.add(f"OID/Dataset/train/{name}/0a.jpg", None, data=data)
        put(project, f"OID/Dataset/train/{name}/Label/0a.txt", line)
    counts = project.organize()
    assert "2 boxes" in counts and len(project.splits()) == 1
    (name,) = project.splits()
    assert boxes_of(project, name) == [("Apple", (1, 2, 30, 20)),
                                       ("Bell pepper", (5.5, 5, 50, 39.9))]
    assert [code for code, _, _ in project.findings()] == ["R215"]


def test_fractions_past_the_border_by_rounding_are_put_on_it(project):
    project.add("a.jpg", None)
    put(project, "a.txt", "0 0.500001 0.5 1.0 0.5\n")
    project.organize()
    assert boxes_of(project, "a")[0][1] == (pytest.approx(0, abs=1e-3), 10, 60, 30)
    assert [code for code, _, _ in project.findings() if code != "W116"] == ["R212"]


def test_an_image_that_a_format_lists_without_boxes_is_a_negative(project):
    project.add("a.jpg", None)
    project.add("b.jpg", None)
    text = json.loads(coco(["a.jpg", "b.jpg"]))
    text["annotations"].pop()
    put(project, "x.json", json.dumps(text))
    counts = project.organize()
    assert counts.startswith("2 images ") and "1 box," in counts and "error" not in counts


def test_labels_that_fit_no_image_are_one_line(project):
    project.add("a.jpg", None)
    put(project, "x.json", coco(["other.jpg"]))
    with pytest.raises(DetectorError,
                       match="none of 1 label file fits any of 1 image.*set source.path"):
        project.organize()
    with pytest.raises(DetectorError, match='set source.format = "auto"'):
        project.organize(format="labelstudio")


def test_a_folder_as_download_leaves_it(project):
    folder = "images/source/openimages"
    (project.root / folder / "train").mkdir(parents=True)
    (project.root / folder / "train/0a.jpg").write_bytes(project.bytes_of("a", exif=6))
    columns = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax"
    flags = "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside,IsDifficult"
    tables = {
        "boxes.csv": f"{columns},{flags}\n0a,xclick,/m/0dj6p,1,0.1,0.5,0.25,1,1,0,1,0,-1,1\n",
        "class-descriptions-boxable.csv": "LabelName,DisplayName\n/m/0dj6p,French fries\n",
        "ATTRIBUTION.csv": "ImageID,Author\n0a,Ann\n",
    }
    for name, text in tables.items():
        (project.root / folder / name).write_text(text)
    project.organize(kind="openimages", path="")
    (box,) = read_voc(project.find("0a.xml")).boxes
    assert (box.class_name, box.xyxy_px) == ("French fries", (6, 10, 30, 40))
    assert (box.occluded, box.truncated, box.group_of, box.difficult) == (True, False, True, True)
    # the EXIF turn does not count: boxes of Open Images fit the stored pixels
    assert project.findings() == []


def test_an_image_with_labels_beside_it_leaves_those_of_another_folder_to_the_next(project):
    project.add("x/1.jpg", [("left", (1, 1, 9, 9))])
    project.add("y/1.jpg", [("right", (1, 1, 9, 9))], label="Annotations/1.xml")
    assert "error" not in project.organize()
    assert {boxes_of(project, name)[0][0] for name in ("x_1", "y_1")} == {"left", "right"}


def test_an_image_in_the_tables_of_two_splits_is_an_error(project):
    project.add("a.jpg", None)
    project.add("b.jpg", None)
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    put(project, "train.csv", head + "a.jpg,apple,5,5,25,15\nb.jpg,apple,5,5,25,15\n")
    put(project, "test.csv", head + "a.jpg,apple,5,5,25,15\n")
    project.organize()
    assert ("E011", "train.csv", 2) in project.findings()


def test_grey_images_and_their_depth_are_repaired(project):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(project.bytes_of("a"))).convert("L").save(buffer, "JPEG")
    text = project.text_of("a.jpg", [("apple", (5, 5, 30, 20))])
    text = text.replace("</height></size>", "</height><depth>1</depth></size>")
    project.add("a.jpg", data=buffer.getvalue(), text=text)
    project.organize()
    assert project.findings() == [("R210", "a.jpg", 0), ("R211", "a.xml", 4)]


def test_what_is_wrong_with_a_table_stays_when_its_images_are_edited(project):
    for name in ("a", "b"):
        project.add(f"{name}.jpg", None)
    head = "filename,class,xmin,ymin,xmax,ymax\n"
    put(project, "x.csv", head
        + "a.jpg,apple,5,5,25,15\nb.jpg,apple,5,5,25,15\nlost.jpg,apple,1,1,9,9\n")
    project.organize()
    for name in ("a", "b"):
        path = project.find(f"{name}.xml")
        path.write_text(path.read_text("utf-8").replace("apple", "pear"), "utf-8")
    with pytest.raises(DetectorError, match="E009 x 1"):
        project.check()
