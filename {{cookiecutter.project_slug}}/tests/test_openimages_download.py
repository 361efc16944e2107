"""Open Images: what is chosen, fetched, refused, replaced and written, from a server that
misbehaves."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from openimages_server import (
    APPLE,
    CAR,
    IMPATIENT,
    ORANGE,
    PEPPER,
    TAXI,
    OpenImages,
    Server,
    jpeg,
    settings,
)

from scripts.core.schema import toml
from scripts.core.settings import TABLES
from scripts.core.text import DetectorError
from scripts.data.openimages.choice import seeded_order
from scripts.data.openimages.fetch import why_no_jpeg
from scripts.steps.download import download, list_classes, show_stats

FOLDER = "images/source/openimages"
PROJECT = Path(__file__).resolve().parent.parent


class World:
    """A project, a small Open Images, and its server."""

    def __init__(self, folder: Path):
        self.root, self.images = folder / "project", OpenImages(folder / "site")
        self.root.mkdir()
        self.images.folder.mkdir()
        self.server = Server(self.images.folder)
        self.labels: list[str] = ["Apple"]

    def settings(self, **changes):
        return settings(f"{self.server.url}/metadata", f"{self.server.url}/images", **changes)

    def download(self, **changes):
        self.images.write()
        return download(self.root, self.labels, self.settings(**changes), IMPATIENT)

    def refusal(self, **changes) -> str:
        with pytest.raises(DetectorError) as error:
            self.download(**changes)
        assert "\n" not in str(error.value)
        return str(error.value)

    def stored(self, split: str = "train") -> list[str]:
        return sorted(path.stem for path in (self.root / FOLDER / split).glob("*"))

    def path(self, image_id: str, split: str = "train") -> Path:
        return self.root / FOLDER / split / f"{image_id}.jpg"

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.root / FOLDER / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def boxes(self) -> list[tuple[str, str]]:
        return [(row["ImageID"], row["LabelName"]) for row in self.table("boxes.csv")]

    def fetched(self) -> list[str]:
        return [path.split("/")[-1].removesuffix(".jpg") for path in self.server.asked("/images/")]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.server.close()


def test_all_that_was_asked_for_is_there_and_a_second_run_asks_nothing(world, capsys):
    train = [world.images.add("train", APPLE, APPLE + " 0,0,1,0,-1"),
             world.images.add("train", ORANGE, CAR)]
    validation, test = world.images.add("validation", APPLE), world.images.add("test", ORANGE)
    world.labels = ["oranges", "apple"]
    done = world.download()
    assert done.startswith("4 images (train 2, validation 1, test 1), 5 boxes of 2 classes; "
                           "4 fetched")
    assert [world.stored(split) for split in ("train", "validation", "test")] == [
        train, [validation], [test]]
    assert world.path(train[0]).read_bytes() == world.images.image("train", train[0]).read_bytes()
    rows = world.table("boxes.csv")
    assert list(rows[0]) == ("ImageID Source LabelName Confidence XMin XMax YMin YMax IsOccluded "
                             "IsTruncated IsGroupOf IsDepiction IsInside IsDifficult").split()
    assert [(row["ImageID"], row["LabelName"], row["IsGroupOf"], row["IsDifficult"])
            for row in rows[:2]] == [
        (train[0], APPLE, "0", "0"), (train[0], APPLE, "1", "0")]
    corners = [rows[0][name] for name in ("XMin", "XMax", "YMin", "YMax")]
    assert corners == ["0.1", "0.5", "0.2", "0.750000"]
    # The names of the classes are those of source.labels, which check compares them with.
    assert world.table("class-descriptions-boxable.csv") == [
        {"LabelName": ORANGE, "DisplayName": "oranges"},
        {"LabelName": APPLE, "DisplayName": "apple"}]
    world.server.requests.clear()
    before = {path: path.stat().st_mtime_ns for path in (world.root / FOLDER).rglob("*.*")}
    assert "; 0 fetched" in str(world.download())
    assert world.server.requests == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().err == ""  # no progress bar where there is no terminal


def test_authors_and_licenses_are_written_also_odd_ones(world):
    ours, _ = world.images.add("train", APPLE), world.images.add("train", ORANGE)
    world.download()
    assert world.table("ATTRIBUTION.csv") == [{
        "ImageID": ours, "Split": "train", "Author": 'Ada "the, first"\nByron',
        "AuthorProfileURL": "https://x/ada", "Title": "A, title", "License": "https://cc/by/2.0/",
        "OriginalLandingURL": f"https://x/{ours}"}]


@pytest.mark.parametrize("trouble", ["no row", "no file"])
def test_images_without_a_known_author_are_counted(world, trouble):
    ours = world.images.add("validation", APPLE)
    if trouble == "no row":
        world.images.authors["validation"].clear()
    else:
        world.images.write()
        world.server.fail("validation-images-with-rotation.csv", 404)
    assert str(world.download()).endswith("1 without author or license")
    (row,) = world.table("ATTRIBUTION.csv")
    assert (row["ImageID"], row["Split"], row["License"]) == (ours, "validation", "")


def test_unknown_names_are_refused_before_boxes_are_read(world):
    world.images.add("train", APPLE)
    world.labels = ["Aple", "Taxi"]
    assert world.refusal().startswith("no class of Open Images is named 'Aple' (did you mean "
                                      "'Apple'?): source.labels")
    assert world.server.requests == ["/metadata/v7/oidv7-class-descriptions-boxable.csv"]
    world.labels = []
    assert world.refusal().startswith("source.labels is empty: detector.toml: name the classes")
    world.labels = ["Apple"]
    assert world.refusal(splits=()).startswith("openimages.splits is empty")


def test_one_image_with_two_classes_is_fetched_once_with_all_boxes_also_under_a_limit(world):
    both = [world.images.add("train", APPLE, ORANGE, TAXI) for _ in range(12)]
    world.labels = ["Apple", "Orange"]
    world.download(limit=4)
    stored = world.stored()
    assert len(stored) == 4 and set(stored) <= set(both)
    assert sorted(world.boxes()) == sorted((each, mid) for each in stored
                                           for mid in (APPLE, ORANGE))
    assert sorted(world.fetched()) == stored


def test_a_class_that_is_added_later_gets_its_boxes_in_images_that_are_there(world):
    both = world.images.add("train", APPLE, ORANGE)
    world.download()
    world.labels = ["Apple", "Orange"]
    world.server.requests.clear()
    world.download()
    assert world.boxes() == [(both, APPLE), (both, ORANGE)] and world.fetched() == []
    world.labels = ["Orange"]
    world.server.requests.clear()
    world.download()
    assert world.boxes() == [(both, ORANGE)] and world.server.requests == []


def test_the_choice_is_the_same_everywhere_and_grows_with_the_limit(world):
    ids = [world.images.add("train", APPLE) for _ in range(20)]
    world.download(limit=5)
    five = world.stored()
    assert five == sorted(seeded_order(ids, 7)[:5])
    world.fetched()
    world.download(limit=8)
    assert set(five) < set(world.stored()) and len(world.fetched()) == 3
    eight = world.stored()
    world.download(limit=8, seed=8)
    assert world.stored() != eight and len(world.stored()) == 8


def test_the_order_does_not_depend_on_pythons_hashes_or_on_other_images():
    ids = [f"{number:04x}" for number in range(50)]
    code = "from scripts.data.openimages.choice import seeded_order as o; " \
           "print(o({f'{n:04x}' for n in range(50)}, 7))"
    printed = set()
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True,
                              text=True, env=environment)
        printed.add(done.stdout.strip())
    order = seeded_order(ids, 7)
    assert printed == {str(order)} and order != sorted(ids)
    assert seeded_order(ids[:20], 7) == [each for each in order if each in ids[:20]]


def test_images_that_are_no_longer_chosen_are_set_aside_and_come_back(world):
    for _ in range(10):
        world.images.add("train", APPLE)
    world.download(limit=10)
    many = world.stored()
    world.fetched()
    assert "7 no longer chosen and set aside" in str(world.download(limit=3))
    assert len(world.stored()) == 3 and len(world.boxes()) == 3
    world.download(limit=10)
    assert world.stored() == many and world.fetched() == []


def test_fewer_images_than_the_limit_are_said_and_are_no_error(world, capsys):
    for _ in range(3):
        world.images.add("train", APPLE)
    world.labels = ["Apple", "Squash"]
    assert world.download(limit=5).startswith("3 images (train 3, validation 0, test 0), 3 boxes")
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == ("download: train: fewer images than openimages.limit = 5 exist: Apple 3, "
                     "Squash 0")
    world.download(limit=0)
    assert capsys.readouterr().out.splitlines()[0] == "download: train: no image exists: Squash 0"


@pytest.mark.parametrize(
    ("changes", "chosen", "difficult"),
    [
        # images: 0 hidden, 1 whole, 2 nobody looked, 3 one hidden and one whole, 4 one nobody
        # looked and one hidden
        ({}, "01234", 0),
        ({"occluded": "exclude"}, "1234", 2),
        ({"occluded": "exclude", "unknown": "drop"}, "13", 1),
        ({"occluded": "only"}, "0234", 1),
        ({"occluded": "only", "unknown": "drop"}, "034", 2),
        ({"occluded": "exclude", "group_of": "only"}, "", 0),
        ({"truncated": "exclude", "unknown": "drop"}, "01234", 0),
    ],
)
def test_filters_ask_boxes_and_what_they_refuse_stays_marked_in_chosen_images(world, changes,
                                                                              chosen, difficult):
    hidden, whole, unknown = (f"{APPLE} {flag},0,0,0,0" for flag in (1, 0, -1))
    images = [(hidden,), (whole,), (unknown,), (hidden, whole), (unknown, hidden)]
    ids = [world.images.add("train", *boxes) for boxes in images]
    world.download(**changes)
    expected = [ids[int(number)] for number in chosen]
    assert world.stored() == expected
    assert world.boxes() == [(each, APPLE) for each in expected for _ in images[ids.index(each)]]
    assert sum(row["IsDifficult"] == "1" for row in world.table("boxes.csv")) == difficult


def test_kinds_of_a_class_count_as_that_class_when_asked(world):
    car, taxi = world.images.add("train", CAR), world.images.add("train", TAXI)
    world.labels = ["Car"]
    world.download()
    assert world.boxes() == [(car, CAR)]
    world.download(descendants=True)
    assert world.boxes() == [(car, CAR), (taxi, CAR)]
    world.labels = ["Car", "Taxi"]
    world.download(descendants=True)
    assert world.boxes() == [(car, CAR), (taxi, TAXI)]


def test_what_the_server_lacks_is_listed_and_replaced(world):
    ids = seeded_order([world.images.add("train", APPLE) for _ in range(8)], 7)
    world.server.fail(ids[0], 404)
    world.images.image("train", ids[3]).unlink()
    done = world.download(limit=4)
    assert world.stored() == sorted([ids[1], ids[2], ids[4], ids[5]])
    assert "2 not on the server (images/source/openimages/missing.log)" in str(done)
    log = (world.root / FOLDER / "missing.log").read_text().splitlines()
    assert [line.split()[0] for line in log[1:]] == sorted([f"train/{ids[0]}", f"train/{ids[3]}"])
    world.fetched()
    world.download(limit=4)
    assert world.fetched() == []
    (world.root / FOLDER / "missing.log").unlink()
    world.server.faults.clear()
    world.download(limit=4)
    assert ids[0] in world.stored() and ids[5] not in world.stored()


@pytest.mark.parametrize("fault", [500, 429, "truncated", "slow", "short length", "broken"])
def test_an_image_that_comes_right_at_last_is_taken(world, fault):
    ours = world.images.add("train", APPLE)
    world.server.fail(ours, fault, None)
    world.download()
    assert world.path(ours).read_bytes() == world.images.image("train", ours).read_bytes()
    assert world.fetched() == [ours, ours]


@pytest.mark.parametrize("fault", [500, 403, "truncated", "slow", "short length", "broken"])
def test_images_that_exist_and_fail_stop_and_only_they_are_fetched_the_next_time(world, fault):
    ids = [world.images.add("train", APPLE) for _ in range(6)]
    world.server.fail(ids[2], fault)
    text = world.refusal()
    assert text.startswith("1 image could not be fetched, 5 could (train/" + ids[2])
    assert text.endswith("run the same command again, it fetches only what is missing")
    there = [each for each in ids if each != ids[2]]
    assert world.stored() == there and [each for each, _ in world.boxes()] == there
    assert not (world.root / FOLDER / "missing.log").exists()
    world.fetched()
    world.server.faults.clear()
    world.download()
    assert world.fetched() == [ids[2]] and world.stored() == ids


def test_an_image_that_is_broken_on_the_server_is_replaced_in_the_second_run(world):
    order = seeded_order([world.images.add("train", APPLE) for _ in range(6)], 7)
    bad = order[1]
    world.images.image("train", bad).write_bytes(b"<html>")
    assert "not a JPEG" in world.refusal(limit=3)
    assert world.stored() == sorted([order[0], order[2]])
    world.download(limit=3)
    assert world.stored() == sorted([order[0], order[2], order[3]])
    assert f"train/{bad} broken on the server" in (world.root / FOLDER / "missing.log").read_text()


def test_a_dead_server_is_given_up_soon(world):
    for _ in range(80):
        world.images.add("train", APPLE)
    world.images.write()
    world.server.fail("images", 503)
    assert world.refusal().startswith("80 images could not be fetched, 0 could")
    assert len(world.fetched()) < 60 * IMPATIENT.tries


def test_an_exif_turn_is_kept_byte_for_byte(world):
    data = jpeg(orientation=6)
    ours = world.images.add("train", APPLE, data=data)
    world.download()
    assert world.path(ours).read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"<html>", jpeg()[:-40], jpeg()[:300], b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_whole_jpeg_is_told(data):
    assert why_no_jpeg(data).startswith("not a")
    assert why_no_jpeg(jpeg(3, 6)) == ""


def test_everything_works_from_files_too(world):
    ours = world.images.add("train", APPLE)
    world.images.write()
    base = world.images.folder.as_uri()
    download(world.root, ["Apple"], settings(f"{base}/metadata/", f"{base}/images/"), IMPATIENT)
    assert world.stored() == [ours] and world.server.requests == []
    world.images.image("train", ours).unlink()
    world.path(ours).unlink()
    assert "1 not on the server" in str(
        download(world.root, ["Apple"], settings(f"{base}/metadata/", f"{base}/images/"),
                 IMPATIENT))


def test_counting_fetches_no_image(world):
    for number in range(4):
        world.images.add("train", APPLE, f"{APPLE} {number % 2},0,0,0,0", PEPPER)
    world.images.write()
    lines = show_stats(world.root, ["Apple", "bell_peppers"],
                       world.settings(limit=3, occluded="only"), IMPATIENT)
    rows = [line.split() for line in lines.splitlines()]
    assert rows[1] == ["Apple", "train", "2", "2", "6", "2"]
    assert rows[4] == ["bell_peppers", "train", *"0040"]
    assert rows[-1][:2] == ["2", "images"]
    assert world.server.asked("/images/") == [] and world.server.asked("images") == []
    assert not (world.root / FOLDER / "train").exists()


def test_the_list_counts_boxes_once_and_finds_words(world):
    world.images.add("train", APPLE, APPLE, TAXI)
    world.images.add("test", TAXI)
    world.images.write()
    listed = list_classes(world.root, "", [], world.settings(), IMPATIENT)
    rows = dict(re.findall(r"^(.+?) {2,}(\S.*)$", listed, flags=re.MULTILINE))
    assert rows["boxes of"].split() == ["train", "validation", "test"]
    assert rows["Apple"].split() == ["2", "0", "0"]
    assert rows["Kitchen & dining room table"].split() == ["0", "0", "0"]
    assert rows["Taxi"].split() == ["1", "0", "1"]
    world.server.requests.clear()
    found = list_classes(world.root, "squash", [], world.settings(), IMPATIENT).splitlines()
    assert [line.split()[0] for line in found] == ["boxes", "Squash", "1"]
    assert world.server.requests == []
    with pytest.raises(DetectorError,
                       match="has 'pepers' in its name: v7: did you mean Bell pepper"):
        list_classes(world.root, "pepers", [], world.settings(), IMPATIENT)


@pytest.fixture
def typed(world):
    """The commands as they are typed in a project whose settings stand in the environment."""
    for name in ("scripts", "tasks.py", "invoke.yaml"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, world.root / name)
    given = {"source.kind": "openimages", "source.labels": ["Apple"],
             "openimages.metadata_url": f"{world.server.url}/metadata",
             "openimages.images_url": f"{world.server.url}/images"}
    lines = []
    for table, kind in TABLES.items():
        lines.append(f"[{table}]")
        for each in fields(kind):
            value = given.get(f"{table}.{each.name}", each.metadata["rule"].example)
            lines.append(f"{each.name} = {toml(value)}")
    text = "\n".join([*lines, "[overrides]", ""])
    (world.root / "detector.toml").write_text(text, "utf-8")
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("INVOKE_")}

    def run(*arguments, wait=True, **variables):
        process = subprocess.Popen([sys.executable, "-m", "invoke", *arguments], cwd=world.root,
                                   text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   env=environment | variables)
        if not wait:
            return process
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def test_typed_commands(world, typed):
    ids = [world.images.add("train", APPLE) for _ in range(3)]
    world.images.write()
    code, out, err = typed("download", "--list")
    assert (code, err) == (0, "") and out.startswith("boxes of") and "Taxi" in out
    code, out, _ = typed("download", "--list", "taxis")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["boxes", "Taxi", "1"]
    code, out, _ = typed("download", "--stats-only")
    assert code == 0 and "3 images would be fetched" in out and world.server.asked("/images/") == []
    # Looking is not doing.
    code, out, err = typed("download")
    assert (code, err) == (0, "") and "download: ran" in out and world.stored() == ids
    world.server.requests.clear()
    assert typed("download") == (0, "download: up to date\n", "")
    assert world.server.requests == []
    world.path(ids[1]).unlink()
    code, out, _ = typed("download")
    assert code == 0 and "1 fetched" in out and len(world.server.requests) == 1
    _, out, _ = typed("download", INVOKE_SOURCE_KIND="demo")
    assert out.endswith(": nothing to download: source.kind is demo\n")
    _, out, _ = typed("download", INVOKE_SOURCE_KIND="demo", INVOKE_OPENIMAGES_SEED="9",
                      INVOKE_SOURCE_LABELS="x")
    assert out == "download: up to date\n"
    code, out, err = typed("download", INVOKE_SOURCE_LABELS="Aple")
    assert (code, out) == (1, "")
    assert err.startswith("error: no class of Open Images is named 'Aple' (did you mean")


def test_ctrl_c_while_images_come(world, typed):
    ids = seeded_order([world.images.add("train", APPLE) for _ in range(30)], 7)
    world.images.write()
    for image_id in ids[10:]:
        world.server.fail(image_id, "stuck")
    process = typed("download", wait=False)
    deadline_s = time.monotonic() + 30
    while len(world.stored()) < 10 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    started_s = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - started_s < 8
    assert err == "download: interrupted: what came is kept; `invoke download` goes on from there\n"
    there = [each for each in world.stored() if not each.startswith(".")]
    assert there == sorted(ids[:10])
    world.server.faults.clear()
    world.fetched()
    code, out, _ = typed("download")
    assert code == 0 and "20 fetched" in out
    assert sorted(world.fetched()) == sorted(ids[10:]) and world.stored() == sorted(ids)
