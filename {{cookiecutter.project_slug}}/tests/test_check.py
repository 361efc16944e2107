"""The step check: every defect is named with its code, file and line, all at once."""

import json

import pytest

from scripts.core.text import DetectorError
from scripts.data.explanations import CATALOG


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
    unaccepted = [row for row in report["findings"] if row["severity"] == "error" and row["code"] not in accept]
    assert bool(errors) == bool(unaccepted)
    return [(row["code"], row["file"].removeprefix("../source/"), row["line"]) for row in report["findings"]]


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
    assert run(clean, min_box_px=3) == [] and run(clean, min_box_px=4) == [("E004", "train/small.xml", 8)]


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
        ("E006", "images/train/turned.xml"), ("E007", "images/train/turned.jpg"), ("E009", "images/train/orphan.xml"),
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
    clean.find("bad.xml").write_text(clean.text_of("bad.jpg", [("apple", (1, 1, 9, 9)), ("apple", (9, 9, 1, 1))]))
    clean.find("turned.jpg").write_bytes(clean.bytes_of("turned"))
    assert look(clean) == [("E003", "images/train/bad.xml", 17)]


def test_errors_stop_in_one_line_after_the_report_is_written(clean, capsys):
    for index in range(7):
        clean.add(f"train/bad{index}.jpg", [("apple", (20, 5, 10, 30))])
    clean.organize()
    with pytest.raises(DetectorError, match=r'7 errors \(E003 x 7\).*check.json.*accept = \["E003"\]') as caught:
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
    assert set(report["findings"][0]) == {"code", "severity", "file", "line", "class", "message", "fix"}
    assert report["findings"][0]["class"] == "apple"


def test_every_code_has_a_title_and_a_fix():
    for code in CATALOG.values():
        assert code.title and code.advice and code.severity in ("error", "warning", "repaired")
