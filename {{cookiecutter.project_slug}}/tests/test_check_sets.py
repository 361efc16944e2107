"""The step check: boxes that are right by their numbers and odd by their looks, and oddities of the
set as a whole."""

import json

import pytest

from scripts.core.text import DetectorError

BIG, SMALL = ("apple", (2, 2, 58, 38)), ("apple", (5, 5, 30, 20))


def found(project, **settings) -> dict[str, list[dict]]:
    """The rows of `check.json` by code, after organize; errors do not stop here."""
    project.organize()
    try:
        project.check(**settings)
    except DetectorError:
        pass
    report = json.loads((project.root / "annotations/check.json").read_text("utf-8"))
    by_code = {}
    for row in report["findings"]:
        by_code.setdefault(row["code"], []).append(row)
    return by_code


def add_sets(project, boxes: dict[str, list]) -> None:
    """One image of `boxes` for each split."""
    for split in ("train", "validation", "test"):
        for name, each in boxes.items():
            project.add(f"{split}/{split}_{name}.jpg", each)


def test_a_box_over_the_whole_image_is_named_unless_it_stands_for_a_group(project):
    add_sets(project, {"a": [SMALL]})
    project.add("train/whole.jpg", [("apple", (0, 0, 60, 39.9))])
    text = project.text_of("group.jpg", [("apple", (0, 0, 60, 40))]).replace("<pose>", "<group_of>1</group_of><pose>")
    project.add("train/group.jpg", text=text)
    rows = found(project)
    assert list(rows) == ["W114"] and [row["line"] for row in rows["W114"]] == [8]
    assert "covers 99.8 % of the 60x40 image" in rows["W114"][0]["message"]


def test_two_boxes_on_one_thing_point_to_the_second(project):
    add_sets(project, {"a": [SMALL, ("pear", (5, 5, 30, 20))]})
    project.add("train/twice.jpg", [SMALL, ("apple", (40, 5, 50, 20)), ("apple", (5, 5, 30.5, 20.4))])
    rows = found(project)
    assert list(rows) == ["W115"] and [row["line"] for row in rows["W115"]] == [26]
    assert "that of line 8 (IoU 0.9" in rows["W115"][0]["message"]


def test_more_boxes_than_the_model_finds(project):
    add_sets(project, {"a": [SMALL]})
    crowd = [("apple", (x, y, x + 3, y + 3)) for x in range(0, 55, 5) for y in range(0, 35, 4)][:99]
    project.add("train/full.jpg", [*crowd[:98], *crowd[:2]])
    assert "E014" not in found(project, accept=("W115",))
    project.add("train/crowd.jpg", [*crowd, ("apple", (50, 30, 56, 36)), ("apple", (51, 30, 59, 36))])
    rows = found(project)["E014"]
    assert [row["line"] for row in rows] == [8 + 9 * 100] and "101 boxes" in rows[0]["message"]


def test_rare_classes_are_one_line(project):
    add_sets(project, {"a": [SMALL, ("pear", (31, 5, 50, 20)), ("fig", (5, 25, 20, 38))]})
    for index in range(8):
        project.add(f"train/more{index}.jpg", [SMALL])
    assert "W101" not in found(project)
    project.add("train/last.jpg", [SMALL])
    assert [row["message"] for row in found(project)["W101"]] == ["boxes: 'apple' 10, but 'fig' 1, 'pear' 1"]


def test_tiny_boxes_are_measured_at_the_input_of_the_model(project):
    add_sets(project, {"a": [("apple", (5, 5, 7, 7)), *[SMALL] * 6]})
    assert "W102" not in found(project, input_px=256)
    rows = found(project, input_px=96)["W102"]
    assert [row["message"] for row in rows] == ["3 boxes of 21 (14 %) are under 8x8 px at an input of 96 px"]


@pytest.mark.parametrize("flag", ["group_of", "is_crowd", "difficult"])
def test_many_marked_boxes_are_one_line(project, flag):
    add_sets(project, {"a": [SMALL] * 5})
    assert "W103" not in found(project)
    for split in ("train", "test"):
        text = project.text_of("m.jpg", [SMALL] * 3).replace("<pose>", f"<{flag}>1</{flag}><pose>")
        project.add(f"{split}/marked_{split}.jpg", text=text)
    rows = found(project)["W103"]
    assert [row["message"] for row in rows] == [f"6 of 21 boxes (29 %) are marked: {flag} 6"]


def test_background_is_missed_only_where_boxes_fill_every_image(project):
    for split in ("validation", "test"):
        project.add(f"{split}/{split}.jpg")
    for index in range(20):
        project.add(f"train/full{index}.jpg", [BIG])
    assert len(found(project)["W104"]) == 1
    project.add("train/nothing.jpg", [])
    assert "W104" not in found(project)


def test_images_of_open_images_need_author_and_license(project):
    add_sets(project, {"a": [SMALL]})
    project.organize()
    manifest = project.root / "annotations/organize.json"
    manifest.write_text(manifest.read_text("utf-8").replace("../source/", "images/source/openimages/"), "utf-8")
    for kind, count in (("folder", 0), ("openimages", 1)):
        try:
            project.check(kind=kind)
        except DetectorError:
            pass
        report = json.loads((project.root / "annotations/check.json").read_text("utf-8"))
        assert [row["code"] for row in report["findings"]] == ["W105"] * count
    assert "3 of 3 images" in report["findings"][0]["message"]
    table = project.root / "images/source/openimages/ATTRIBUTION.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{split}_a,Ada,CC BY 2.0\n" for split in ("train", "validation")) + "test_a,,CC BY 2.0\n"
    table.write_text("ImageID,Author,License\n" + rows, "utf-8")
    project.check(kind="openimages")
    report = json.loads((project.root / "annotations/check.json").read_text("utf-8"))
    assert "1 of 3 images without author or license, such as test_a.jpg" in report["findings"][0]["message"]


def test_many_codes_are_shown_with_fewer_places_each(project, capsys):
    add_sets(project, {"a": [SMALL]})
    bad = [(20, 5, 10, 30), (5, 5, 5, 9), (5, 5, 90, 9), (5, "x", 9, 9)]
    for index in range(4):
        project.add(f"train/bad{index}.jpg", [("apple", corners) for corners in bad] + [("", (5, 5, 9, 9))])
        project.add(f"train/alone{index}.jpg", None)
        project.add(f"train/cut{index}.jpg", data=project.bytes_of(str(index))[:-20])
        project.add(f"train/broken{index}.jpg", text="<annotation>")
        project.add(f"train/turned{index}.jpg", data=project.bytes_of(f"turned{index}", exif=6))
    found(project)
    table = capsys.readouterr().out
    assert table.count("is inverted") == 1 + 2 and "2 more in annotations/check.json" in table


def test_findings_in_a_table_of_all_images_name_the_image(project):
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for name in ("a.jpg", "b.jpg"):
        project.add(name, None)
        rows += [f"{name},60,40,apple,5,5,{30 if name == 'a.jpg' else 61.123456789},20"]
    (project.source / "labels.csv").write_text("\n".join(rows), "utf-8")
    row = found(project)["E005"][0]
    assert row["file"].endswith("labels.csv") and row["line"] == 3
    assert row["message"].startswith("'b.jpg': 'apple' box (5, 5, 61.12346, 20) leaves")
