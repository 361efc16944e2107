"""`invoke runs` and `invoke compare`: what is kept of each scored checkpoint, and what can be said
of two of them."""

import json

import pytest
from made_detections import made

from scripts.core.files import write_json
from scripts.core.text import DetectorError
from scripts.evaluation.metrics import score
from scripts.evaluation.runs import keep_run
from scripts.steps.train import set_aside
from scripts.tools.compare import compare, list_runs

SETTINGS = {"score_threshold": 0.01, "max_detections": 100}
TRUTH, FOUND = made(40)
HALF = [row for place, row in enumerate(FOUND) if place % 2]


def keep(root, weights, found=FOUND, truth=TRUTH, trained=None, **settings):
    """What `invoke evaluate` does after a training with these weights and settings; returns the id.
    """
    training = {"model": "lite0-256", "steps": 400, "seconds": 240.0, "settings": trained or {}}
    write_json(root / "training/run.json", training)
    best = root / "training/best"
    best.mkdir(exist_ok=True)
    for name in ("ckpt-400.index", "ckpt-400.data-00000-of-00001", "checkpoint"):
        (best / name).write_text(f"{name} {weights}", "utf-8")
    metrics = score(truth, found)
    write_json(root / "eval/metrics.json", metrics)
    return keep_run(root / "eval/runs", best / "ckpt-400", training, SETTINGS | settings,
                    (truth, found), metrics,
                    {"AP": (0.1, 0.9)})


def listed(root):
    return json.loads(list_runs(root, as_json=True))["runs"]


def without(images, truth=TRUTH, found=FOUND):
    """Ground truth and detections without the images of these numbers."""
    cut = {**truth, "images": [row for row in truth["images"] if row["id"] not in images],
           "annotations": [row for row in truth["annotations"] if row["image_id"] not in images]}
    return cut, [row for row in found if row["image_id"] not in images]


def test_another_training_or_other_settings_add_a_run_and_the_same_again_replaces_it(tmp_path):
    first = keep(tmp_path, "one", HALF)
    (tmp_path / "eval/runs" / first / "notes.txt").write_text("the warm one", "utf-8")
    assert keep(tmp_path, "one", FOUND) == first
    assert (tmp_path / "eval/runs" / first / "notes.txt").is_file(), "notes of the user's stay"
    (row,) = listed(tmp_path)
    assert row["ap"] == score(TRUTH, FOUND)["AP"] and row["ap_interval"] == [0.1, 0.9]
    second = keep(tmp_path, "two")
    third = keep(tmp_path, "two", score_threshold=0.3)
    assert [row["id"] for row in listed(tmp_path)] == [first, second, third] == sorted(
        {first, second, third})
    keep(tmp_path, "one", FOUND)
    assert len(listed(tmp_path)) == 3
    assert not list((tmp_path / "eval/runs").glob(".*")), "nothing half written is left"


def test_runs_outlive_a_training_that_is_forgotten(tmp_path):
    name = keep(tmp_path, "one")
    set_aside(tmp_path)
    assert not (tmp_path / "training/run.json").exists()
    assert [row["id"] for row in listed(tmp_path)] == [name]


def test_the_table_says_what_each_run_was_and_which_one_eval_holds(tmp_path):
    assert list_runs(tmp_path).startswith("no runs yet: eval/runs/: `invoke evaluate`")
    keep(tmp_path, "one", HALF)
    name = keep(tmp_path, "two")
    heads, first, second, note = list_runs(tmp_path).split("\n")
    assert heads.split() == ["run", "scored", "(UTC)", "model", "checkpoint", "minutes", "images",
                             "AP", "95",
                             "%", "interval", "AP50"]
    assert f"{name} *" in second and "*" not in first and note == "* is in eval/ now"
    ap = listed(tmp_path)[-1]["ap"]
    assert all(word in second.split()
               for word in ("lite0-256", "ckpt-400", "4.0", "40", f"{100 * ap:.1f}"))


def test_a_damaged_run_is_named_and_does_not_stop_the_next_evaluation(tmp_path):
    name = keep(tmp_path, "one")
    for text in ("{", "[]", '{"id": 1}', '{"figures": {}, "time": 1}'):
        (tmp_path / "eval/runs" / name / "run.json").write_text(text, "utf-8")
        with pytest.raises(
            DetectorError, match=f"damaged: eval/runs/{name}/run.json: delete the folder"):
            list_runs(tmp_path)
    assert keep(tmp_path, "one") != name


def test_a_run_that_finds_less_is_worse_and_one_that_differs_by_chance_is_not_distinguishable(
    tmp_path):
    keep(tmp_path, "one")
    keep(tmp_path, "two", HALF)
    found = compare(tmp_path, "previous", "last")
    assert [(each.name, each.verdict) for each in found.differences] == [
        ("AP", "worse"), ("AP50", "worse"), ("class 1", "worse"), ("class 2", "worse"),
        ("class 3", "worse")]
    assert all(each.interval[0] < each.b - each.a < each.interval[1] for each in found.differences)
    assert "on 40 images\n" in str(found) and "is worse than" in str(found).split("\n")[-1]
    assert {each.verdict for each in compare(tmp_path, "last", "previous").differences} == {
        "better"}
    keep(tmp_path, "three", FOUND[1:])
    found = compare(tmp_path, listed(tmp_path)[0]["id"], "last")
    assert found.differences[0].verdict == "not distinguishable"
    assert "not distinguishable by AP" in str(found)


def test_images_added_or_relabeled_later_are_left_out_and_counted(tmp_path):
    keep(tmp_path, "one", *reversed(without({1, 2})))
    keep(tmp_path, "two", HALF)
    found = compare(tmp_path, "previous", "last")
    truth, rows = without({1, 2})
    assert (found.images, found.only) == (38, (0, 2))
    assert found.differences[0].a == score(truth, rows)["AP"]
    assert ("on 38 images that both scored with equal labels "
            "(0 more of A and 2 more of B are left out)") in str(found)
    moved = [{**row, "bbox": [1, 2, 30, 40]} if row["image_id"] == 5 else row
             for row in TRUTH["annotations"]]
    keep(tmp_path, "three", FOUND, {**TRUTH, "annotations": moved})
    assert compare(tmp_path, "previous", "last").only == (1, 1)


def test_images_and_classes_are_known_by_their_names_not_their_numbers(tmp_path):
    keep(tmp_path, "one")
    other = {1: 3, 2: 1, 3: 2}
    renumbered = {
        "images": [{**row, "id": 1000 - row["id"]} for row in TRUTH["images"]],
        "categories": [{**row, "id": other[row["id"]]} for row in TRUTH["categories"]],
        "annotations": [changed(row, other) for row in reversed(TRUTH["annotations"])],
    }
    keep(tmp_path, "two", [changed(row, other) for row in FOUND], renumbered)
    found = compare(tmp_path, "previous", "last")
    assert found.images == 40
    assert all(each.a == each.b and each.interval == (0, 0) for each in found.differences)


def changed(row, classes):
    return {**row, "image_id": 1000 - row["image_id"], "category_id": classes[row["category_id"]]}


def test_settings_that_differ_are_said(tmp_path):
    keep(tmp_path, "one", trained={"rate": 0.1, "same": 1})
    keep(tmp_path, "one", trained={"rate": 0.2, "same": 1}, score_threshold=0.3)
    notes = compare(tmp_path, "previous", "last").notes
    assert notes == ("evaluate.score_threshold: A 0.01, B 0.3", "rate: A 0.1, B 0.2")
    keep(tmp_path, "two", trained={f"key {number}": number for number in range(9)})
    notes = compare(tmp_path, "previous", "last").notes
    assert len(notes) == 7 and notes[-1] == "6 more settings differ: eval/runs/*/run.json"


def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path):
    def refused(first, second):
        with pytest.raises(DetectorError) as refusal:
            compare(tmp_path, first, second)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    assert "there are none" in refused("previous", "last")
    one = keep(tmp_path, "one")
    assert "there is 1" in refused("previous", "last")
    two = keep(tmp_path, "two")
    assert f"did you mean {one}?" in refused(one.replace("lite0", "lite1"), two)
    assert "no run is named 'apple': eval/runs/: `invoke runs` lists them" in refused("apple", two)
    assert "is the beginning of 2 runs" in refused(one[:4], "last")
    assert f"both are the run {two}" in refused("last", two)
    keep(tmp_path, "three", *reversed(without(set(range(1, 41)))))
    assert "share no image with equal labels" in refused("last", "previous")
    (tmp_path / "eval/runs" / one / "detections.json").write_text("[1]", "utf-8")
    assert f"damaged: eval/runs/{one}: delete that folder" in refused(one, two)


def test_four_images_tell_nothing(tmp_path):
    for weights in ("one", "two"):
        keep(tmp_path, weights, *reversed(without(set(range(5, 41)))))
    text = str(compare(tmp_path, "previous", "last"))
    assert "on 4 images\n" in text and text.endswith("too few images with boxes to compare")
