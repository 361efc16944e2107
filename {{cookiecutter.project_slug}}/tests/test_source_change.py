"""Another source in detector.toml: unedited images move out of the way, nothing gets lost."""

import shutil

import pytest
from conftest import SOURCE, SPLIT

from scripts.core.schema import Demo, Source, Split
from scripts.core.text import DetectorError
from scripts.data.formats.voc import read_voc
from scripts.data.images_folder import ImagesFolder
from scripts.data.label_map import read_label_map
from scripts.data.split import read_split
from scripts.steps.labelmap import labelmap
from scripts.steps.organize import organize

DEMO = {"kind": "demo", "path": ""}


def clear(project) -> None:
    for split in ("train", "validation", "test"):
        shutil.rmtree(project.root / "images" / split, ignore_errors=True)


def images(project) -> list[str]:
    return sorted(path.name for path in (project.root / "images").glob("[tv]*/*.[jp]*"))


def rename_class(label) -> None:
    text = label.read_text("utf-8")
    label.write_text(text.replace(f"<name>{read_voc(label).boxes[0].class_name}<", "<name>mine<"),
                     "utf-8")


def organize_demo(project, **values) -> str:
    source = Source(**{**SOURCE, **DEMO})
    return organize(project.root, source, Demo(size_px=64, **values), Split(**SPLIT))


def label_map(project) -> str:
    return str(labelmap(project.root, []))


def ids(project) -> dict[int, str]:
    return read_label_map(project.root / "annotations/label_map.pbtxt")


@pytest.fixture
def drawn(project):
    """The demo was organized and numbered; the folder of the user holds three images."""
    project.organize(**DEMO)
    label_map(project)
    for name in "abc":
        project.add(f"{name}.jpg", [("Waschbär", (5, 5, 30, 20))])
    return project


@pytest.fixture
def moved(project):
    """Six organized images, one of them edited, whose folder was then moved."""
    for name in "abcdef":
        project.add(f"sub/{name}.jpg")
    project.organize()
    rename_class(project.find("a.xml"))
    project.source.rename(project.root.parent / "elsewhere")
    return project


def test_drawn_images_make_way_for_a_folder(drawn):
    before = images(drawn)
    assert "3 new, 4 images of the earlier source moved to images/previous" in str(drawn.organize())
    assert sorted(path.name for path in (drawn.root / "images/previous").rglob("*.jpg")) == before
    assert len(list((drawn.root / "images/previous").rglob("*.xml"))) == 4
    assert images(drawn) == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(read_split(drawn.root / "annotations/split.csv")) == 3
    assert "moved to" not in str(drawn.organize())


def test_their_names_are_free_at_once(drawn):
    drawn.add("fruit_00000.jpg")
    drawn.organize()
    assert "fruit_00000.jpg" in images(drawn)


def test_images_that_the_user_added_to_the_drawn_ones_stay(drawn):
    (drawn.root / "images/train/own.png").write_bytes(drawn.bytes_of("own", form="PNG"))
    drawn.organize()
    assert "own.png" in images(drawn)


def test_a_source_that_cannot_be_used_removes_nothing(drawn):
    before = drawn.stored()
    for path in ("", "../missing", "../project"):
        with pytest.raises(DetectorError, match="source.path"):
            drawn.organize(path=path)
    for name in "abc":
        drawn.add(f"{name}.jpg", data=b"no image")
    with pytest.raises(DetectorError, match="none of 3 images can be used"):
        drawn.organize()
    assert drawn.stored() == before


def test_edited_drawings_are_kept_and_the_line_says_what_to_type(drawn):
    label = next((drawn.root / "images").glob("t*/fruit_*.xml"))
    label.write_bytes(label.read_bytes().replace(b"</annotation>", b" </annotation>"))
    where = label.relative_to(drawn.root).with_suffix("").as_posix()
    with pytest.raises(DetectorError,
                       match=rf"^1 image edited here .*: {where}: .*`rm {where}\.\*`"):
        drawn.organize()
    assert len(images(drawn)) == 4
    drawn.organize(**DEMO)  # the other way out that the line names
    for path in label.parent.glob(label.stem + ".*"):
        path.unlink()
    assert "3 images of the earlier source moved" in str(drawn.organize())


@pytest.mark.parametrize("lost", ["organize.json", "*"])
def test_drawings_without_a_manifest_are_not_mixed_with_images_of_the_user(drawn, lost):
    for path in (drawn.root / "annotations").glob(lost):
        path.unlink()
    with pytest.raises(DetectorError,
                       match="4 images of an earlier source would be mixed.*`rm -r images/.*train"):
        drawn.organize()


def test_a_copy_of_the_drawn_images_may_become_the_source(drawn):
    counts = str(drawn.organize(path="images/source/demo"))
    assert "4 images" in counts and "moved to" not in counts and "new" not in counts


def test_images_of_the_user_make_way_for_the_demo_unless_they_were_edited(project):
    project.add("a.jpg")
    project.organize()
    label = project.find("a.xml")
    text = label.read_bytes()
    rename_class(label)
    with pytest.raises(DetectorError, match=r"^1 image edited here .* '../source': images/train/a: "
                                            r'.*set kind = "folder", path = "../source"'):
        project.organize(**DEMO)
    assert images(project) == ["a.jpg"]
    label.write_bytes(text)
    assert "1 image of the earlier source moved to images/previous" in str(project.organize(**DEMO))
    assert len(images(project)) == 4 and (project.root / "images/previous/train/a.jpg").exists()
    assert "4 images of the earlier source moved to images/previous_2" in str(project.organize())
    assert images(project) == ["a.jpg"]


def test_a_demo_of_other_values_is_another_source(drawn):
    counts = str(organize_demo(drawn, images=3, seed=7))
    assert "3 images" in counts and "1 image of the earlier source moved" in counts
    rename_class(next(path for path in (drawn.root / "images").glob("t*/*2.xml")
                      if read_voc(path).boxes))
    with pytest.raises(DetectorError, match="^1 image edited here came from the earlier source"):
        organize_demo(drawn, images=2, seed=7)


def test_an_interrupted_change_goes_on_with_equal_names(project, monkeypatch):
    for name in "abc":
        project.add(f"{name}.jpg")
    project.organize()
    other = project.root.parent / "other"
    project.source = other
    for name in "abc":
        project.add(f"{name}.jpg", [("pear", (1, 1, 9, 9))], data=project.bytes_of(f"other {name}"))
    put, calls = ImagesFolder.put, []

    def stop_at_second(folder, item):
        calls.append(item)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return put(folder, item)

    monkeypatch.setattr(ImagesFolder, "put", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        project.organize(path="../other")
    project.organize(path="../other")
    classes = {read_voc(path).boxes[0].class_name
               for path in (project.root / "images").glob("t*/*.xml")}
    assert classes == {"pear"} and images(project) == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(list((project.root / "images/previous").rglob("*.jpg"))) == 3


def test_a_moved_folder_is_the_same_source(moved):
    before = moved.splits()
    counts = str(moved.organize(path="../elsewhere"))
    assert "6 found under another path" in counts and "1 edited here, kept" in counts
    assert "new" not in counts
    assert moved.splits() == before and read_voc(moved.find("a.xml")).boxes[0].class_name == "mine"
    assert "another path" not in str(moved.organize(path="../elsewhere"))


def test_a_moved_folder_may_have_grown(moved):
    moved.source = moved.root.parent / "elsewhere"
    moved.add("new.jpg")
    assert "1 new, 6 found" in str(moved.organize(path="../elsewhere"))


def test_copies_in_respected_splits_stay_apart_when_the_folder_moves(project):
    same = project.bytes_of("same")
    for split in ("train", "test"):
        for name in "xy":
            project.add(f"{split}/{name}.jpg", data=same if name == "x" else None)
    project.organize()
    before = project.stored()
    project.source.rename(project.root.parent / "elsewhere")
    counts = str(project.organize(path="../elsewhere"))
    assert "4 found" in counts and "warning" not in counts
    assert project.stored() == before


def test_of_another_folder_only_what_it_lacks_makes_way(moved):
    other = moved.root.parent / "other"
    shutil.copytree(moved.root.parent / "elsewhere", other)
    (other / "sub/b.jpg").unlink()
    (moved.root / "images/train/own.jpg").write_bytes(moved.bytes_of("own"))
    counts = str(moved.organize(path="../other"))
    assert "5 found under another path, 1 edited here, kept" in counts
    assert "1 image of the earlier source moved to images/previous" in counts
    assert images(moved) == ["a.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "own.jpg"]
    assert read_voc(moved.find("a.xml")).boxes[0].class_name == "mine"


def test_edited_images_that_another_folder_lacks_stop_it(moved):
    other = moved.root.parent / "other"
    shutil.copytree(moved.root.parent / "elsewhere", other)
    (other / "sub/a.jpg").unlink()
    before = moved.stored()
    with pytest.raises(DetectorError) as caught:
        moved.organize(path="../other")
    start = "1 image edited here came from the earlier source '../source': images/"
    assert str(caught.value).startswith(start)
    assert 'set kind = "folder", path = "../source"' in str(caught.value)
    assert moved.stored() == before
    for name in "cdef":
        rename_class(moved.find(f"{name}.xml"))
        (other / f"sub/{name}.jpg").unlink()
    with pytest.raises(DetectorError,
                       match=r"^5 images edited here .*, \.\.\.: .*`rm -r images/train images/.*` "
                                            r"\(copy what you edited or added there first\)"):
        moved.organize(path="../other")
    clear(moved)
    assert "1 new" in str(moved.organize(path="../other"))


def test_drawn_classes_leave_the_label_map(drawn):
    before = ids(drawn)
    drawn.organize()
    wanted = f"1 class, 1 new, {len(before)} classes of the earlier source removed"
    assert label_map(drawn) == wanted
    assert ids(drawn) == {1: "Waschbär"}
    assert label_map(drawn) == "1 class"


def test_a_class_that_was_also_drawn_is_numbered_anew(drawn):
    drawn.add("d.jpg", [("orange", (5, 5, 30, 20)), ("Apfel", (1, 1, 9, 9))])
    drawn.organize()
    label_map(drawn)
    assert ids(drawn) == {1: "Apfel", 2: "Waschbär", 3: "orange"}


def test_after_the_switch_ids_stay_even_if_all_are_names_of_drawn_classes(drawn):
    names = list(ids(drawn).values())
    for name in names:
        drawn.add(f"{name}.jpg", [(name, (5, 5, 30, 20))])
    for name in "abc":
        (drawn.source / f"{name}.jpg").unlink()
        (drawn.source / f"{name}.xml").unlink()
    drawn.organize()
    assert label_map(drawn) == f"{len(names)} classes"
    drawn.add(f"{names[0]}.jpg", [(names[1], (5, 5, 30, 20))])
    drawn.organize()
    assert f"1 without boxes, kept ({names[0]}" in label_map(drawn)
    assert ids(drawn) == dict(enumerate(names, start=1))


def test_ids_stay_when_the_folder_moves(moved):
    label_map(moved)
    before = ids(moved)
    moved.organize(path="../elsewhere")
    assert "removed" not in label_map(moved)
    rename_class(moved.find("b.xml"))
    label_map(moved)
    assert ids(moved) == before


@pytest.mark.parametrize("edit", ["item {id: 9 name: 'kiwi'}\n", "# my comment\n"])
def test_a_map_that_the_user_edited_keeps_its_ids(drawn, edit):
    path = drawn.root / "annotations/label_map.pbtxt"
    text = path.read_text("utf-8")
    path.write_text(text + edit, "utf-8")
    before = ids(drawn)
    drawn.organize()
    assert "removed" not in label_map(drawn)
    assert ids(drawn) == {**before, max(before) + 1: "Waschbär"}


def test_the_same_image_twice_in_one_split_of_images_is_a_warning(project, capsys):
    for split in ("train", "validation", "test"):
        project.add(f"{split}/{split}.jpg")
    project.organize()
    for suffix in (".jpg", ".xml"):
        shutil.copy(project.root / f"images/train/train{suffix}",
                    project.root / f"images/train/copy{suffix}")
    assert "1 warning" in str(project.check())
    assert "train/train.jpg is the same image as train/copy.jpg" in capsys.readouterr().out


def test_labels_of_the_user_do_not_meet_drawn_images(project):
    with pytest.raises(DetectorError,
                       match='^source.labels are Waschbär, the drawn .* kind = "folder" and path'):
        project.organize(**DEMO, labels=("Waschbär",))
    assert project.stored() == []


@pytest.mark.parametrize("source",
                         [{"kind": "demo", "path": ""}, {"kind": "folder", "path": "../source"}])
def test_downloaded_images_make_way_for_another_source(project, source):
    folder = project.root / "images/source/openimages"
    (folder / "train").mkdir(parents=True)
    (folder / "train/0a.jpg").write_bytes(project.bytes_of("a"))
    columns = "ImageID,LabelName,XMin,XMax,YMin,YMax"
    (folder / "boxes.csv").write_text(f"{columns}\n0a,/m/1,0.1,0.5,0.2,0.9\n")
    (folder / "class-descriptions-boxable.csv").write_text("LabelName,DisplayName\n/m/1,Apple\n")
    project.organize(kind="openimages", path="")
    project.add("b.jpg")
    counts = project.organize(**source)
    assert "1 image of the earlier source moved to images/previous" in counts
    assert "0a.jpg" not in images(project)
    assert (project.root / "images/previous/train/0a.jpg").exists()
    assert (folder / "train/0a.jpg").exists()


# `images/` belongs to the user: what a second organize adds, updates, and leaves alone.


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
