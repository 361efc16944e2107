"""The step check: every defect is named with its code, file and line, all at once; its texts."""

import json
import re

import pytest

from scripts.core.text import DetectorError
from scripts.data.explanations import CATALOG, explain


def run(project, **settings) -> list[tuple[str, str, int]]:
    """Code, file and line of all findings of `check.json`, after organize."""
    project.organize()
    return look(project, **settings)


def look(project, accept=(), **settings) -> list[tuple[str, str, int]]:
    errors = ""
    try:
        project.check(accept=accept, **settings)
    except DetectorError as error:
        errors = str(error)
    report = json.loads((project.root / "annotations/check.json").read_text("utf-8"))
    unaccepted = [
        row
        for row in report["findings"]
        if row["severity"] == "error" and row["code"] not in accept
    ]
    assert bool(errors) == bool(unaccepted)
    return [
        (row["code"], row["file"].removeprefix("../source/"), row["line"])
        for row in report["findings"]
    ]


def test_good_images_have_no_findings(clean, capsys):
    assert run(clean) == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("boxes", "found"),
    [
        ([("apple", (20, 5, 10, 30))], ("E003", 8)),
        ([("apple", (5, 5, 9, 9)), ("apple", (5, 5, 5, 9))], ("E004", 17)),
        ([("apple", (5, 5, 5.5, 9))], ("E004", 8)),
        ([("apple", (5, 5, 61, 9))], ("E005", 8)),
        ([("apple", (-0.5, 5, 50, 9))], ("E005", 8)),
        ([("apple", (5, "nan", 50, 9))], ("E008", 8)),
        ([("apple", (5, "", 50, 9))], ("E008", 8)),
        ([("apple", (5, "abc", 50, 9))], ("E008", 8)),
        ([("", (5, 5, 50, 9))], ("E021", 8)),
    ],
)
def test_bad_boxes_point_to_the_line_in_the_source(clean, boxes, found):
    clean.add("train/bad.jpg", boxes)
    assert run(clean) == [(found[0], "train/bad.xml", found[1])]


def test_boxes_up_to_the_border_are_inside_also_by_rounding(clean):
    clean.add("train/edges.jpg", [("apple", (0, 0, 60, 30)), ("apple", (-5e-7, 5, 30, 40.0000005))])
    assert run(clean) == []
    clean.add("train/beyond.jpg", [("apple", (-0.01, 0, 50, 30))])
    assert run(clean) == [("E005", "train/beyond.xml", 8)]


def test_min_box_px_is_a_setting(clean):
    clean.add("train/small.jpg", [("apple", (5, 5, 8, 30))])
    assert run(clean, min_box_px=3) == [] and run(clean, min_box_px=4) == [
        ("E004", "train/small.xml", 8)
    ]


def test_unknown_classes_are_named_with_the_nearest(clean, capsys):
    clean.add("train/typo.jpg", [("Aple", (5, 5, 30, 30))])
    assert run(clean, labels=["apple"]) == [("E001", "train/typo.xml", 8)]
    assert "'Aple' is not in source.labels, nearest: 'apple'" in capsys.readouterr().out


def test_without_labels_two_spellings_of_a_class_are_a_warning(clean):
    for split in ("train", "validation", "test"):
        clean.add(f"{split}/other{split}.jpg", [("Apple", (5, 5, 30, 30))])
    assert [code for code, _, _ in run(clean)] == ["W108"] * 3


def test_a_class_without_boxes_in_a_split_comes_with_the_table(clean, capsys):
    clean.add("train/pear.jpg", [("pear", (5, 5, 30, 30)), ("pear", (30, 5, 50, 30))])
    assert run(clean) == [("E002", "images", 0)]
    assert "boxes of 'pear': train 2, validation 0, test 0" in capsys.readouterr().out


def test_equal_images_in_two_splits(clean):
    clean.add("test/leak.jpg", data=clean.bytes_of("train/train0.jpg"))
    assert run(clean) == [("E011", "test/leak.jpg", 0)]


def test_findings_of_the_readers_are_reported_too(clean):
    clean.add("train/cut.jpg", data=clean.bytes_of("cut")[:-30])
    clean.add("train/alone.jpg", None)
    clean.add("train/turned.jpg", data=clean.bytes_of("turned", exif=6))
    clean.add("train/broken.jpg", text="<annotation>\n<object>")
    assert [found[:2] for found in run(clean)] == [
        ("E007", "train/turned.jpg"), ("E010", "train/cut.jpg"), ("E012", "train/alone.jpg"),
        ("E019", "train/broken.xml"),
    ]  # fmt: skip


def test_files_that_the_user_put_into_images_are_checked_too(clean):
    clean.organize()
    folder = clean.root / "images/train"
    (folder / "cut.jpg").write_bytes(clean.bytes_of("cut")[:-30])
    (folder / "cut.xml").write_text(clean.text_of("cut.jpg", []))
    (folder / "turned.jpg").write_bytes(clean.bytes_of("turned", exif=3))
    (folder / "turned.xml").write_text(clean.text_of("turned.jpg", [], (1, 1)))
    (folder / "alone.jpg").write_bytes(clean.bytes_of("alone"))
    (folder / "orphan.xml").write_text(clean.text_of("orphan.jpg", []))
    assert [found[:2] for found in look(clean)] == [
        ("E006", "images/train/turned.xml"), ("E007", "images/train/turned.jpg"),
        ("E009", "images/train/orphan.xml"),
        ("E010", "images/train/cut.jpg"), ("E012", "images/train/alone.jpg"),
    ]  # fmt: skip


def test_what_organize_would_have_re_encoded_is_named_in_images(clean):
    clean.organize()
    (clean.root / "images/train/own.webp").write_bytes(clean.bytes_of("own", form="WEBP"))
    (clean.root / "images/train/own.xml").write_text(clean.text_of("own.webp", []))
    assert look(clean) == [("E022", "images/train/own.webp", 0)]


def test_correcting_the_copy_in_images_ends_the_finding(clean):
    clean.add("train/bad.jpg", [("apple", (20, 5, 10, 30))])
    clean.add("train/turned.jpg", data=clean.bytes_of("turned", exif=6))
    assert len(run(clean)) == 2
    clean.find("bad.xml").write_text(
        clean.text_of("bad.jpg", [("apple", (1, 1, 9, 9)), ("apple", (9, 9, 1, 1))])
    )
    clean.find("turned.jpg").write_bytes(clean.bytes_of("turned"))
    assert look(clean) == [("E003", "images/train/bad.xml", 17)]


def test_errors_stop_in_one_line_after_the_report_is_written(clean, capsys):
    for index in range(7):
        clean.add(f"train/bad{index}.jpg", [("apple", (20, 5, 10, 30))])
    clean.organize()
    with pytest.raises(
        DetectorError, match=r'7 errors \(E003 x 7\).*check.json.*accept = \["E003"\]'
    ) as caught:
        clean.check()
    assert "\n" not in str(caught.value)
    table = capsys.readouterr().out
    assert table.count("is inverted") == 5 + 1 and "2 more in annotations/check.json" in table
    assert "7 errors accepted (E003 x 7)" in str(clean.check(accept=["E003"]))


def test_an_unknown_code_is_answered_with_the_nearest(clean):
    clean.organize()
    with pytest.raises(DetectorError, match="'e3'.*nearest is 'E0.*check.accept"):
        clean.check(accept=["e3"])


def test_nothing_to_check_is_one_line(project):
    with pytest.raises(DetectorError, match="invoke organize"):
        project.check()


def test_the_report_has_the_pinned_form(clean):
    clean.add("train/bad.jpg", [("apple", (20, 5, 10, 30))])
    run(clean)
    report = json.loads((clean.root / "annotations/check.json").read_text("utf-8"))
    assert {key: value for key, value in report.items() if key != "findings"} == {
        "schema": 1, "images": 7, "boxes": 7, "errors": 1, "warnings": 0, "repaired": 0,
    }  # fmt: skip
    assert set(report["findings"][0]) == {
        "code", "severity", "file", "line", "class", "message", "fix",
    }
    assert report["findings"][0]["class"] == "apple"


# Boxes that are odd by their looks, and the images as a set.

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
    text = project.text_of("group.jpg", [("apple", (0, 0, 60, 40))]).replace(
        "<pose>", "<group_of>1</group_of><pose>"
    )
    project.add("train/group.jpg", text=text)
    rows = found(project)
    assert list(rows) == ["W114"] and [row["line"] for row in rows["W114"]] == [8]
    assert "covers 99.8 % of the 60x40 image" in rows["W114"][0]["message"]


def test_two_boxes_on_one_thing_point_to_the_second(project):
    add_sets(project, {"a": [SMALL, ("pear", (5, 5, 30, 20))]})
    project.add(
        "train/twice.jpg", [SMALL, ("apple", (40, 5, 50, 20)), ("apple", (5, 5, 30.5, 20.4))]
    )
    rows = found(project)
    assert list(rows) == ["W115"] and [row["line"] for row in rows["W115"]] == [26]
    assert "that of line 8 (IoU 0.9" in rows["W115"][0]["message"]


def test_more_boxes_than_the_model_finds(project):
    add_sets(project, {"a": [SMALL]})
    crowd = [("apple", (x, y, x + 3, y + 3)) for x in range(0, 55, 5) for y in range(0, 35, 4)][:99]
    project.add("train/full.jpg", [*crowd[:98], *crowd[:2]])
    assert "E014" not in found(project, accept=("W115",))
    project.add(
        "train/crowd.jpg", [*crowd, ("apple", (50, 30, 56, 36)), ("apple", (51, 30, 59, 36))]
    )
    rows = found(project)["E014"]
    assert [row["line"] for row in rows] == [8 + 9 * 100] and "101 boxes" in rows[0]["message"]


def test_rare_classes_are_one_line(project):
    add_sets(project, {"a": [SMALL, ("pear", (31, 5, 50, 20)), ("fig", (5, 25, 20, 38))]})
    for index in range(8):
        project.add(f"train/more{index}.jpg", [SMALL])
    assert "W101" not in found(project)
    project.add("train/last.jpg", [SMALL])
    assert [row["message"] for row in found(project)["W101"]] == [
        "boxes: 'apple' 10, but 'fig' 1, 'pear' 1"
    ]


def test_tiny_boxes_are_measured_at_the_input_of_the_model(project):
    add_sets(project, {"a": [("apple", (5, 5, 7, 7)), *[SMALL] * 6]})
    assert "W102" not in found(project, input_px=256)
    rows = found(project, input_px=96)["W102"]
    assert [row["message"] for row in rows] == [
        "3 boxes of 21 (14 %) are under 8x8 px at an input of 96 px"
    ]


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
    manifest.write_text(
        manifest.read_text("utf-8").replace("../source/", "images/source/openimages/"), "utf-8"
    )
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
    rows = (
        "".join(f"{split}_a,Ada,CC BY 2.0\n" for split in ("train", "validation"))
        + "test_a,,CC BY 2.0\n"
    )
    table.write_text("ImageID,Author,License\n" + rows, "utf-8")
    project.check(kind="openimages")
    report = json.loads((project.root / "annotations/check.json").read_text("utf-8"))
    assert (
        "1 of 3 images without author or license, such as test_a.jpg"
        in report["findings"][0]["message"]
    )


def test_many_codes_are_shown_with_fewer_places_each(project, capsys):
    add_sets(project, {"a": [SMALL]})
    bad = [(20, 5, 10, 30), (5, 5, 5, 9), (5, 5, 90, 9), (5, "x", 9, 9)]
    for index in range(4):
        project.add(
            f"train/bad{index}.jpg", [("apple", corners) for corners in bad] + [("", (5, 5, 9, 9))]
        )
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


# The texts of `invoke check --explain`.


def test_every_code_has_a_title_and_a_fix():
    for code in CATALOG.values():
        assert code.title and code.advice and code.severity in ("error", "warning", "repaired")


@pytest.mark.parametrize("code", CATALOG)
def test_every_code_is_explained_in_a_few_sentences(code):
    text = explain(code.lower())
    assert CATALOG[code].title in text and max(map(len, text.splitlines())) <= 100
    assert 1 <= len(re.findall(r"[.?:](?: |$)", CATALOG[code].why)) <= 6
    assert ("check.accept" in text) == (CATALOG[code].severity == "error")
    assert CATALOG[code].severity != "error" or CATALOG[code].accepted


def test_what_fix_does_and_what_accepting_means():
    text = " ".join(explain("E005").split())
    assert (
        "clips it to the image when it leaves by at most 10 %" in text
        and 'check.accept = ["E005"]' in text
    )
    assert "only a person can decide" in explain("E010")


def test_no_code_lists_all():
    lines = explain("").splitlines()
    assert [line[:4] for line in lines[: len(CATALOG)]] == sorted(
        CATALOG, key=lambda code: ("EWR".index(code[0]), code)
    )


def test_an_unknown_code_is_one_line_with_the_nearest():
    with pytest.raises(DetectorError, match="'E05' is no code, the nearest is 'E0.5'") as refused:
        explain("e05")
    assert "\n" not in str(refused.value)
