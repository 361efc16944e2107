"""Open Images: names of classes however they are written, the tree, and what `--list` finds."""

import pytest
from openimages_server import APPLE, CAR, NAMES, PEPPER, SQUASH, TAXI

from scripts.core.text import DetectorError
from scripts.data.openimages.class_names import (
    RENAMED,
    matching,
    nearest,
    owners,
    read_class_names,
    resolve,
)


@pytest.mark.parametrize(
    ("label", "mid"),
    [
        ("Apple", APPLE),
        ("apple", APPLE),
        ("APPLES", APPLE),
        ("Bell_pepper", PEPPER),  # as OIDv4_ToolKit wants it on the command line
        ("bell-peppers", PEPPER),
        ("taxis", TAXI),
        ("Squash", SQUASH),  # version 4
        ("squash (plant)", SQUASH),
        ("Kitchen_&_dining_room_table", "/m/0h8n5zk"),
        ("kitchen & dining room tables", "/m/0h8n5zk"),
        ("headphone", "/m/01b7fy"),
        ("glasses", "/m/0jyfg"),
    ],
)
def test_a_name_is_found_however_it_is_written(label, mid):
    assert resolve([label], NAMES) == {mid: label}


@pytest.mark.parametrize("mid", RENAMED)
def test_renamed_classes_are_found_by_both_names_in_both_versions(mid):
    for own_name in RENAMED[mid]:
        names = {"/m/0k4j": "Car", mid: own_name}
        assert [list(resolve([asked], names)) for asked in RENAMED[mid]] == [[mid], [mid]]


def test_the_words_that_name_no_class_are_all_said_at_once_with_the_nearest():
    with pytest.raises(DetectorError) as error:
        resolve(["Aple", "Car", "bell paper", "Qqq"], NAMES)
    text = str(error.value)
    assert "'Aple' (did you mean 'Apple'?)" in text
    assert "'bell paper' (did you mean 'Bell pepper'?)" in text
    assert "'Qqq':" in text and "Car" not in text and "\n" not in text


@pytest.mark.parametrize("label", ["glass", "app", "pepper", "carr"])
def test_a_name_is_not_stretched_to_another_class(label):
    with pytest.raises(DetectorError):
        resolve([label], NAMES)


def test_two_labels_for_one_class_are_refused():
    with pytest.raises(DetectorError, match="'apple' and 'Apples' are one class"):
        resolve(["apple", "Apples"], NAMES)


def test_lists_with_and_without_a_header_read_the_same():
    for text in ("LabelName,DisplayName\n/m/1,A\n", '/m/1,"A"\r\n'):
        assert read_class_names(text) == {"/m/1": "A"}
    with pytest.raises(ValueError):
        read_class_names("<html>sign in</html>")


def test_words_find_classes_by_old_and_new_names():
    assert list(matching("peppers", NAMES)) == [PEPPER]
    assert list(matching("SQUASH", NAMES)) == [SQUASH]
    assert len(matching("", NAMES)) == len(NAMES)
    assert nearest("pepers", NAMES) == ["Bell pepper"]


TREE = {"LabelName": "all", "Subcategory": [
    {"LabelName": "vehicle", "Subcategory": [
        {"LabelName": CAR, "Subcategory": [{"LabelName": TAXI}], "Part": [{"LabelName": "wheel"}]},
        {"LabelName": "ship"}]},
    {"LabelName": "rented", "Subcategory": [{"LabelName": "ship"}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([CAR], {CAR: CAR, TAXI: CAR}),  # parts are no kinds
        (["vehicle", CAR], {"vehicle": "vehicle", CAR: CAR, TAXI: CAR, "ship": "vehicle"}),
        ([TAXI, "vehicle"], {TAXI: TAXI, "vehicle": "vehicle", CAR: "vehicle", "ship": "vehicle"}),
        (["rented", "vehicle"],
         {"rented": "rented", "vehicle": "vehicle", CAR: "vehicle", TAXI: "vehicle",
                                 "ship": "rented"}),
    ],
)  # fmt: skip
def test_kinds_go_to_the_nearest_class_that_was_asked(asked, expected):
    assert owners(asked, TREE) == expected
