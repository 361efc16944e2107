"""`invoke check --fix` repairs what is safe in `images/`, says so, and leaves the source alone."""

import io
import json

import pytest
from PIL import Image

from scripts.core.text import DetectorError
from scripts.data import fixes
from scripts.data.formats.voc import read_voc

GOOD = ("apple", (5, 5, 30, 20))
FIXES = "annotations/fixes.json"


def fixed(project, **settings) -> list[str]:
    """Codes of the errors and warnings that are left after organize and `--fix`."""
    project.organize()
    return refixed(project, **settings)


def refixed(project, **settings) -> list[str]:
    try:
        project.check(fixing=True, **settings)
    except DetectorError:
        pass
    report = json.loads((project.root / "annotations/check.json").read_text("utf-8"))
    return [row["code"] for row in report["findings"] if row["severity"] != "repaired"]


def journal(project) -> list[tuple]:
    rows = json.loads((project.root / FIXES).read_text("utf-8"))["fixes"]
    return [
        (row["code"], row["file"], row["line"], row["class"], row["before"], row["after"])
        for row in rows
    ]


def boxes(project, name: str) -> list[tuple]:
    return [(box.class_name, box.xyxy_px) for box in read_voc(project.find(name)).boxes]


@pytest.mark.parametrize(
    ("bad", "after", "code"),
    [
        ((-3, 5, 50, 9), (0, 5, 50, 9), "E005"),
        ((5, 5, 66, 44), (5, 5, 60, 40), "E005"),
        ((50, 30, 10, 9), (10, 9, 50, 30), "E003"),
        ((50, 9, 10, 30), (10, 9, 50, 30), "E003"),
        ((5, 5, 5, 9), None, "E004"),
        ((5, 5, 5.5, 9), None, "E004"),
        ((5, "nan", 50, 9), None, "E008"),
        ((5, "", 50, 9), None, "E008"),
        ((5.2, 5, 30, 20.3), None, "W115"),
    ],
)
def test_boxes_that_are_repaired(clean, capsys, bad, after, code):
    clean.add("train/bad.jpg", [GOOD, ("apple", bad)])
    assert fixed(clean) == []
    assert boxes(clean, "bad.xml") == [GOOD] + [("apple", after)] * bool(after)
    before = [None if value in ("nan", "") else float(value) for value in bad]
    file = clean.find("bad.xml").relative_to(clean.root).as_posix()
    line = [row[2] for row in journal(clean)]
    assert journal(clean) == [
        (code, file, line[0], "apple", before, list(after) if after else None)
    ]
    assert f"{file}:{line[0]}  {code}  'apple'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ((-7, 5, 50, 9), "E005"),  # more than a tenth of the side
        ((60.5, 5, 65, 9), "E005"),  # nothing of it is inside
        ((70, 30, 10, 9), "E003"),  # inverted and outside
        ((5, 5, 8, 9), "E004"),  # small only for a setting
        ((5, 5, 31.2, 20), "W115"),  # maybe two apples
    ],
)
def test_boxes_that_need_a_person(clean, bad, code):
    clean.add("train/bad.jpg", [GOOD, ("apple", bad)])
    clean.organize()
    before = clean.find("bad.xml").read_bytes()
    assert code in refixed(clean, min_box_px=3.5 if code == "E004" else 1)
    assert clean.find("bad.xml").read_bytes() == before and not (clean.root / FIXES).exists()


@pytest.mark.parametrize(
    ("name", "labels", "after"),
    [
        ("Apple", ["apple", "pear"], "apple"),
        ("ap-ple ", ["apple"], "apple"),
        ("aple", ["apple", "pear"], "apple"),
        ("appel", ["apple"], None),  # two letters differ, five letters are few
        ("orenges", ["oranges", "apple"], "oranges"),
        ("bear", ["apple", "pear"], None),
        ("cow", ["apple", "cat"], None),
        ("apples", ["apple", "ample"], None),  # two are near
    ],
)
def test_classes_are_renamed_only_when_one_is_surely_meant(clean, name, labels, after):
    for label in labels:
        for split in ("train", "validation", "test"):
            clean.add(f"{split}/{split}_{label}.jpg", [(label, (5, 5, 30, 20))])
    clean.add("train/bad.jpg", [(name, (5, 5, 30, 20))])
    assert fixed(clean, labels=labels) == ([] if after else ["E001"])
    assert boxes(clean, "bad.xml")[0][0] == (after or name)


def test_a_class_with_more_boxes_than_the_label_is_no_slip(clean):
    assert (
        set(fixed(clean, labels=["appl"])) == {"E001", "E002"} and not (clean.root / FIXES).exists()
    )


def test_without_labels_spellings_become_the_most_common(clean):
    clean.add("train/bad.jpg", [("Apple", (5, 5, 30, 20)), ("APPLE", (31, 5, 50, 20))])
    assert fixed(clean) == [] and [name for name, _ in boxes(clean, "bad.xml")] == [
        "apple", "apple",
    ]


def test_a_renamed_and_clipped_box_is_two_edits(clean):
    clean.add("train/bad.jpg", [("Apple", (-1, 5, 30, 20))])
    assert fixed(clean, labels=["apple"]) == []
    assert [row[0] for row in journal(clean)] == ["E001", "E005"] and boxes(clean, "bad.xml") == [
        ("apple", (0, 5, 30, 20))
    ]


def test_what_was_accepted_is_meant(clean):
    clean.add("train/bad.jpg", [("aple", (-1, 5, 30, 20)), ("apple", (30, 20, 5, 5))])
    assert fixed(clean, labels=["apple"], accept=["E001", "E005"]) == ["E001", "E005"]
    assert boxes(clean, "bad.xml") == [("aple", (-1, 5, 30, 20)), ("apple", (5, 5, 30, 20))]


def test_the_rest_of_a_label_file_stays_as_it_is(clean):
    clean.organize()
    text = clean.text_of("own.jpg", [GOOD, ("apple", (-1, "5,5", 30.0, 20))]).replace(
        "<pose>", "<!-- hm --><pose>"
    )
    clean.root.joinpath("images/train/own.xml").write_text(text, "utf-8")
    clean.root.joinpath("images/train/own.jpg").write_bytes(clean.bytes_of("own"))
    assert refixed(clean) == []
    wanted = text.replace("<xmin>-1<", "<xmin>0<").replace("5,5", "5.5")
    assert clean.find("own.xml").read_text("utf-8") == wanted


def own(
    project, name: str, data: bytes, declared: tuple = (60, 40), corners: tuple = (5, 5, 30, 20)
) -> None:
    """An image with a label file that the user put into images/train."""
    folder = project.root / "images/train"
    (folder / name).write_bytes(data)
    text = project.text_of(name, [("apple", corners)], declared)
    (folder / name).with_suffix(".xml").write_text(text, "utf-8")


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_turned_image_is_turned_as_source_exif_says(clean, form):
    clean.organize()
    data = clean.bytes_of("turned", form=form, exif=6)
    name = "turned.jpg" if form == "JPEG" else "turned.png"
    own(clean, name, data, corners=(5, 5, 30, 55))
    assert (
        refixed(clean, exif="error") == ["E005", "E007"] and clean.find(name).read_bytes() == data
    )
    assert refixed(clean, exif="displayed") == []
    with Image.open(clean.find(name)) as image:
        assert (
            image.size == (40, 60) and image.getexif().get(0x0112, 1) == 1 and image.format == form
        )
    label = read_voc(clean.find("turned.xml"))
    assert (label.width_px, label.height_px) == (40, 60) and label.boxes[0].xyxy_px == (
        5, 5, 30, 55,
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_boxes_on_the_stored_view_only_lose_the_tag(clean, form):
    clean.organize()
    data = clean.bytes_of("turned", form=form, exif=6)
    own(clean, "turned.jpg", data)
    assert refixed(clean, exif="stored") == []
    now = clean.find("turned.jpg").read_bytes()
    pixels = [Image.open(io.BytesIO(each)).tobytes() for each in (data, now)]
    assert len(now) == len(data) and now != data and pixels[0] == pixels[1]


def test_a_format_that_training_does_not_read_is_written_anew(clean):
    clean.organize()
    own(clean, "a.webp", clean.bytes_of("a", form="WEBP"))
    own(clean, "b.jpg", clean.bytes_of("b", form="WEBP"))
    own(clean, "c.bmp", clean.bytes_of("c", form="BMP"))
    own(clean, "d.webp", clean.bytes_of("d", form="WEBP"))
    (clean.root / "images/train/d.jpg").write_bytes(clean.bytes_of("another d"))
    assert refixed(clean) == ["E020", "E022"]  # d: which of the two is meant?
    names = {path.name for path in (clean.root / "images/train").iterdir()}
    assert {"a.jpg", "a.xml", "b.jpg", "c.png", "d.webp"} <= names and not names & {
        "a.webp", "c.bmp",
    }
    assert (
        Image.open(clean.find("b.jpg")).format == "JPEG"
        and Image.open(clean.find("c.png")).format == "PNG"
    )
    assert read_voc(clean.find("c.xml")).image == "c.png"


@pytest.mark.parametrize(
    ("declared", "left"),
    [((61, 40), []), ((1, 1), []), ((120, 80), ["E006"]), ((40, 60), ["E006"])],
)
def test_a_wrong_size_is_corrected_unless_the_image_was_resized_or_turned(clean, declared, left):
    clean.organize()
    own(clean, "own.jpg", clean.bytes_of("own"), declared)
    assert refixed(clean) == left
    label = read_voc(clean.find("own.xml"))
    assert (label.width_px, label.height_px) == (declared if left else (60, 40))


def test_fixing_twice_changes_nothing(clean):
    clean.add("train/bad.jpg", [GOOD, GOOD, ("apple", (-3, 5, 50, 9)), ("apple", (-30, 5, 50, 9))])
    clean.organize()
    own(clean, "turned.jpg", clean.bytes_of("turned", exif=6), corners=(5, 5, 30, 55))
    own(clean, "a.webp", clean.bytes_of("a", form="WEBP"), declared=(7, 7))
    assert refixed(clean, exif="displayed") == ["E005"]
    state = {path: path.read_bytes() for path in clean.root.rglob("*") if path.is_file()}
    assert len(journal(clean)) == 5
    assert refixed(clean, exif="displayed") == ["E005"]
    assert {path: path.read_bytes() for path in clean.root.rglob("*") if path.is_file()} == state


def test_the_source_is_never_touched_and_organize_keeps_the_repaired_copy(clean):
    clean.add("train/bad.jpg", [("apple", (-3, 5, 50, 9))])
    before = {path: path.read_bytes() for path in clean.source.rglob("*.*")}
    assert (
        fixed(clean) == []
        and {path: path.read_bytes() for path in clean.source.rglob("*.*")} == before
    )
    assert "1 edited here, kept" in str(clean.organize()) and boxes(clean, "bad.xml") == [
        ("apple", (0, 5, 50, 9))
    ]
    clean.check()


def test_later_edits_come_after_earlier_ones(clean):
    clean.add("train/bad.jpg", [("apple", (-3, 5, 50, 9))])
    fixed(clean)
    clean.add("train/late.jpg", [("apple", (30, 20, 5, 5))])
    fixed(clean)
    assert [row[0] for row in journal(clean)] == ["E005", "E003"]


def test_what_is_left_is_named_with_the_reason(clean, capsys):
    clean.add("train/bad.jpg", [("apple", (-30, 5, 50, 9))])
    clean.add("train/cut.jpg", data=clean.bytes_of("cut")[:-30])
    assert fixed(clean) == ["E005", "E010"]
    out = capsys.readouterr().out
    assert "nothing that could be repaired" in out
    assert (
        "E005 x 1: clips it" in out and "E010 x 1: 1 file of the source, left out of images/" in out
    )


def test_check_says_what_fix_would_repair(clean):
    clean.add(
        "train/bad.jpg",
        [("apple", (-3, 5, 50, 9)), ("apple", (30, 20, 5, 5)), ("apple", (-30, 5, 50, 9))],
    )
    clean.organize()
    with pytest.raises(DetectorError, match="3 errors .*`invoke check --fix` repairs 2 of them"):
        clean.check()
    with pytest.raises(DetectorError, match=r"1 error \(E005 x 1\)") as left:
        clean.check(fixing=True)
    assert "--fix" not in str(left.value)


def test_what_was_done_before_an_interruption_is_noted(clean, monkeypatch):
    for index in range(3):
        clean.add(f"train/bad{index}.jpg", [("apple", (-3, 5, 50, 9))])
    clean.organize()
    write, calls = fixes.write_bytes, []

    def stop_at_the_second(path, data):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, data)

    monkeypatch.setattr(fixes, "write_bytes", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        clean.check(fixing=True)
    assert len(journal(clean)) == 1
    monkeypatch.undo()
    assert refixed(clean) == [] and len(journal(clean)) == 3


def test_a_journal_that_is_none_stops_before_anything_is_written(clean):
    clean.add("train/bad.jpg", [("apple", (-3, 5, 50, 9))])
    clean.organize()
    (clean.root / FIXES).write_text("[]", "utf-8")
    with pytest.raises(DetectorError, match="fixes.json: move it away"):
        clean.check(fixing=True)
    assert boxes(clean, "bad.xml") == [("apple", (-3, 5, 50, 9))]
