"""`images/` belongs to the user: what a second organize adds, updates, and leaves alone."""

import shutil

import pytest

from scripts.data.formats.voc import read_voc


@pytest.fixture
def organized(project):
    for name in "abcdef":
        project.add(f"{name}.jpg")
    project.organize()
    return project


def snapshot(project) -> dict[str, tuple[bytes, int]]:
    return {
        name: ((project.root / "images" / name).read_bytes(),
               (project.root / "images" / name).stat().st_mtime_ns)
        for name in project.stored()
    }


def test_a_second_run_touches_nothing(organized):
    path = organized.root / "annotations/organize.json"
    before, manifest = snapshot(organized), path.read_bytes()
    counts = organized.organize()
    assert snapshot(organized) == before and "new" not in str(counts)
    assert path.read_bytes() == manifest


def test_new_images_are_added_and_old_ones_stay_in_their_split(organized):
    before = organized.splits()
    organized.add("0.jpg")
    assert "1 new" in str(organized.organize())
    assert {name: organized.splits()[name] for name in before} == before


def test_edited_files_are_kept_even_when_the_source_changes(organized):
    label = organized.find("a.xml")
    label.write_text(organized.text_of("a.jpg", [("mine", (1, 1, 9, 9))]))
    organized.add("a.jpg", [("apple", (2, 2, 8, 8))])
    assert "1 edited here, kept" in str(organized.organize())
    assert read_voc(label).boxes[0].class_name == "mine"
    assert "1 edited here, kept" in str(organized.organize())


def test_an_unedited_copy_follows_the_source(organized):
    organized.add("a.jpg", [("pear", (2, 2, 8, 8))])
    assert "1 updated from the source" in str(organized.organize())
    assert read_voc(organized.find("a.xml")).boxes[0].class_name == "pear"


def test_a_copy_whose_content_gets_another_format_has_one_file(organized):
    organized.add("a.jpg", data=organized.bytes_of("a", form="PNG"))
    organized.organize()
    assert organized.find("a.png")
    assert not [name for name in organized.stored() if name.endswith("/a.jpg")]


def test_deleted_images_do_not_come_back(organized):
    for name in ("a", "b"):
        organized.find(f"{name}.jpg").unlink()
        organized.find(f"{name}.xml").unlink()
    for _ in range(2):
        assert "2 deleted here, left out" in str(organized.organize())
    assert sorted(organized.splits()) == ["c", "d", "e", "f"]


def test_without_any_image_it_starts_anew_with_the_same_split(organized):
    before = organized.splits()
    for split in ("train", "validation", "test"):
        shutil.rmtree(organized.root / "images" / split)
    assert "6 new" in str(organized.organize())
    assert organized.splits() == before


def test_an_image_moved_to_another_split_stays_there(organized):
    path = organized.find("a.jpg")
    other = "test" if path.parent.name == "train" else "train"
    for file in (path, path.with_suffix(".xml")):
        file.rename(organized.root / "images" / other / file.name)
    organized.organize()
    assert organized.splits()["a"] == other and len(organized.splits()) == 6


def test_images_that_left_the_source_stay(organized):
    (organized.source / "a.jpg").unlink()
    (organized.source / "a.xml").unlink()
    for _ in range(2):
        assert "1 no longer in the source, kept" in str(organized.organize())
    assert "a" in organized.splits()


def test_a_renamed_source_file_is_the_same_image(organized):
    for suffix in (".jpg", ".xml"):
        (organized.source / f"a{suffix}").rename(organized.source / f"renamed{suffix}")
    organized.organize()
    assert sorted(organized.splits()) == ["a", "b", "c", "d", "e", "f"]


def test_lost_manifest_does_not_overwrite(organized):
    shutil.rmtree(organized.root / "annotations")
    organized.find("a.xml").write_text(organized.text_of("a.jpg", [("mine", (1, 1, 9, 9))]))
    before = snapshot(organized)
    assert "1 edited here, kept" in str(organized.organize({"seed": 99}))
    assert snapshot(organized) == before
