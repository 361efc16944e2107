"""What a source is taken for, and which labels belong to which image, over all formats."""

import io
import json
from collections import Counter

import pytest
from PIL import Image

from scripts.core.text import DetectorError
from scripts.data.formats.voc import read_voc

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
