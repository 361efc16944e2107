"""`invoke report`: what the page shows is what the files say, whatever the names are and whichever
file is missing."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from made_detections import made, matched
from made_report import CHECKPOINT, CLASSES, HOSTILE, made_project

from scripts.core.layout import Layout
from scripts.core.text import DetectorError, points
from scripts.report.advice import next_steps
from scripts.report.card import sections
from scripts.report.crops import EXAMPLES, window
from scripts.report.material import COMMANDS, Material
from scripts.report.scores import WRONG, count, last_hundredth
from scripts.tools.report import make_report, read_material, result_files

REPORT = "eval/report.html"


class Page(HTMLParser):
    """Tables by their label, texts of sections by id, and every tag that was opened."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.tables, self.sections, self.island = [], {}, {}, ""
        self.table, self.section, self.inside, self.in_cell = None, None, "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        self.tags.append((tag, said))
        self.inside = tag if said.get("id") != "page-data" else "island"
        if tag == "section":
            self.section = said["id"]
        if tag == "table":
            self.table = self.tables.setdefault(said.get("aria-label"), [])
        if tag == "tr" and self.table is not None:
            self.table.append([])
        if tag in ("td", "th") and self.table is not None:
            self.table[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.inside = ""
        if tag in ("table", "section"):
            setattr(self, tag, None)
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, text):
        if self.inside == "island":
            self.island += text
        if self.inside in ("style", "script", "island"):
            return
        if self.section:
            self.sections[self.section] = self.sections.get(self.section, "") + text
        if self.in_cell:
            self.table[-1][-1] += text

    def rows(self, beginning: str) -> dict[str, list[str]]:
        """Row name -> cells of the table whose label begins so."""
        (found,) = (
            rows for label, rows in self.tables.items() if (label or "").startswith(beginning))
        return {row[0]: row[1:] for row in found}


def page_of(root) -> Page:
    return Page((root / REPORT).read_text("utf-8"))


def material_of(root) -> Material:
    return read_material(Layout(root), result_files(Layout(root)))


def read(root, path):
    return json.loads((root / path).read_text("utf-8"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A made-up project with its report; tests must not write to it."""
    root = made_project(tmp_path_factory.mktemp("report"))
    make_report(root)
    return root


def test_the_figures_are_those_of_the_files(project):
    page, metrics, analysis = page_of(project), read(project, "eval/metrics.json"), read(
        project, "eval/analysis.json")
    rows = page.rows("By class, in points")
    for name, figures in metrics["per_class"].items():
        low, high = analysis["intervals"]["per_class"][name]["AP"]
        best = analysis["thresholds"]["per_class"][name]["best_f1"]
        assert rows[name] == [f"{points(figures['AP'])} ({points(low)} to {points(high)})",
                              points(figures["AP50"]),
                              points(figures["AR100"]), f"{best['score']:.2f}",
                              points(best["precision"]),
                              points(best["recall"]), str(figures["boxes"])]
    head = page.sections["figures"]
    low, high = analysis["intervals"]["AP50"]
    for text in (points(metrics["AP"]), points(metrics["AP50"]), f"{points(low)} to {points(high)}",
                 "47.1", CHECKPOINT,
                 analysis["too_small"]):
        assert text in head


def test_the_counts_of_every_score_are_those_of_the_analysis(project):
    counts, curves = json.loads(page_of(project).island)["counts"], read(
        project, "eval/analysis.json")["curves"]
    for number, name in enumerate(CLASSES):
        for place in range(99):
            hits, wrong = counts["hits"][number][place], counts["false_alarms"][number][place]
            precision = curves[name]["precision"][place]
            assert precision == (hits / (hits + wrong) if hits + wrong else None)
            assert curves[name]["recall"][place] == hits / counts["boxes"][number]


def test_the_slider_counts_what_a_person_would_count():
    truth, found = made(count=12)
    outcome, counts = matched(truth, found), count(truth, found)
    for hundredth in (1, 30, 55, 80, 99):
        for number, category in enumerate(truth["categories"]):
            rows = [outcome[place] for place, row in enumerate(found)
                    if row["category_id"] == category["id"] and row["score"] >= hundredth / 100]
            assert counts.hits[number][hundredth - 1] == sum(box is not None for box, _ in rows)
            assert counts.false_alarms[number][hundredth - 1] == sum(
                box is None and not crowd for box, crowd in rows)
    assert sum(counts.boxes) == sum(not box["iscrowd"] for box in truth["annotations"])


@pytest.mark.parametrize(
    ("score", "hundredth"), [(0.3, 30), (0.29, 29), (0.2999, 29), (0.57, 57), (1.0, 100), (0, 0)])
def test_a_detection_is_shown_up_to_its_own_score(score, hundredth):
    assert last_hundredth(score) == hundredth


def test_confusion_boxes_findings_and_files_are_those_of_the_files(project):
    page, analysis = page_of(project), read(project, "eval/analysis.json")
    shown = page.rows("Confusion matrix")
    for name, row in zip(
        (*CLASSES, "found, but nothing there"), analysis["confusion"]["rows"], strict=True):
        assert [int(cell.replace("·", "0") or 0) for cell in shown[name]] == row
    boxes = page.rows("Boxes by class and split")
    for name in CLASSES:
        wanted = [sum(f",{name}," in line
                      for line in (project / f"annotations/{split}_labels.csv").read_text("utf-8")
                      .splitlines()) for split in ("train", "validation", "test")]
        assert [int(cell) for cell in boxes[name]] == [*wanted, sum(wanted)]
    assert boxes["images"] == ["6", "6", "6", "18"]
    assert page.rows("Findings of invoke check")["R201"][0:2] == ["repaired", "1"]
    assert page.rows("On the test images")["int8"] == ["3.75 MB", "47.1", "81.2",
                                                       "0.4 (-0.3 to 1.2)", "3.4", "4.0",
                                                         "ships"]


def test_the_page_asks_no_server_and_forbids_it(project):
    text = (project / REPORT).read_text("utf-8")
    assert not re.findall(r"https?:", text)
    page = Page(text)
    assert all(said.get("href", "#").startswith(("#", "data:")) for _, said in page.tags)
    assert not [tag for tag, said in page.tags if "src" in said
                or tag in ("iframe", "object", "base", "form")]
    policy = next(said["content"] for tag, said in page.tags
                  if said.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    assert rules["script-src"] == f"'sha256-{digest}'"


def test_hostile_names_are_text(tmp_path):
    root = made_project(tmp_path, classes=HOSTILE)
    make_report(root)
    text, page = (root / REPORT).read_text("utf-8"), page_of(root)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert text.count("</script>") == 2
    assert json.loads(page.island)["classes"] == list(HOSTILE)
    assert set(HOSTILE) <= set(page.rows("By class, in points"))


def test_the_same_files_give_the_same_page(project):
    before = (project / REPORT).read_bytes()
    make_report(project)
    assert (project / REPORT).read_bytes() == before


def test_an_empty_project_has_a_page_that_says_what_to_type(tmp_path):
    summary = make_report(tmp_path)
    page = page_of(tmp_path)
    paths = [
        path.relative_to(tmp_path).as_posix() for path in result_files(Layout(tmp_path)).values()]
    assert summary.endswith(f"\nnot there, so left out: {', '.join(paths)}")
    for section, command in {"figures": "evaluate", "examples": "evaluate", "errors": "evaluate",
                             "data": "csv",
                             "suspects": "suspects", "training": "train",
                             "tflite": "tflite"}.items():
        assert f"Type invoke {command}" in page.sections[section], section


@pytest.mark.parametrize("name", list(COMMANDS))
def test_each_file_may_be_missing(tmp_path, undrawn, name):
    root = made_project(tmp_path, images=2)
    path = result_files(Layout(root))[name]
    path.unlink()
    assert make_report(root).endswith(
        f"\nnot there, so left out: {path.relative_to(root).as_posix()}")
    assert f"invoke {COMMANDS[name]}" in " ".join(page_of(root).sections.values())


@pytest.mark.parametrize(("path", "text", "what"), [
    ("eval/errors.json", "{", "no JSON"), ("eval/errors.json", "[]", "not an object"),
    ("eval/detections.json", "{}", "not a list"),
    ("eval/analysis.json", "{}", "'intervals' is not in it"),
    ("eval/groundtruth.json", "{}", "'images' is not in it"),
    ("eval/metrics.json", '{"AP": 1}', "'AP50' is not in it"),
])  # fmt: skip
def test_a_damaged_file_is_refused_and_the_old_page_stays(tmp_path, undrawn, path, text, what):
    root = made_project(tmp_path, images=2)
    make_report(root)
    before = (root / REPORT).read_bytes()
    (root / path).write_text(text)
    with pytest.raises(
        DetectorError, match=f"{what}.*: {path}: `invoke forget evaluate`, then `invoke evaluate`"):
        make_report(root)
    assert (root / REPORT).read_bytes() == before


def test_what_does_not_belong_together_is_said(tmp_path, undrawn):
    root = made_project(tmp_path, images=2)
    errors = read(root, "eval/errors.json") | {"checkpoint": "best_ckpt-90"}
    (root / "eval/errors.json").write_text(json.dumps(errors))
    (root / "tflite/detector_int8.tflite").write_bytes(b"another")
    make_report(
        root, [("evaluate", "eval/metrics.json changed"), ("tflite", "evaluate would run first")])
    text = (root / REPORT).read_text("utf-8")
    for said in ("eval/errors.json is of best_ckpt-90",
                 "detector_int8.tflite is not the file that was measured",
                 "evaluate would run again (eval/metrics.json changed), and after it tflite: "
                 "this page"):
        assert said in text


def test_nothing_found_is_undefined_and_no_traceback(tmp_path, undrawn):
    root = made_project(tmp_path, images=2)
    analysis = read(root, "eval/analysis.json")
    nothing = {"score": 0.5, "precision": None, "recall": 0.0, "f1": 0.0}
    analysis["thresholds"]["all"] = {"best_f1": nothing, "best_cost": None}
    analysis["thresholds"]["per_class"] = {
        name: {"best_f1": None, "best_cost": None} for name in CLASSES}
    analysis["intervals"] = {
        "AP": None, "AP50": None, "per_class": {name: {"AP": None} for name in CLASSES}}
    (root / "eval/analysis.json").write_text(json.dumps(analysis))
    make_report(root)
    assert "undefined" in page_of(root).sections["figures"]
    (root / "eval/detections.json").write_text("[]")
    analysis["thresholds"]["all"] = {"best_f1": None, "best_cost": None}
    (root / "eval/analysis.json").write_text(json.dumps(analysis))
    assert "2 of 2 test images" in make_report(root)


def test_what_to_do_next_rests_on_the_files(tmp_path):
    root = made_project(tmp_path)
    steps = "\n".join(next_steps(material_of(root)))
    assert "The last checkpoint was the best (best_ckpt-255, AP 48.0" in steps
    assert "Most costly are objects not found" in steps and "5.0 points higher" in steps
    assert "labels are worth a look" in steps and "`invoke check` gave 1 warning" in steps
    labels = [box.class_name for image in material_of(root).tables["train"] for box in image.boxes]
    boxes = {name: labels.count(name) for name in CLASSES}
    fewest, most = min(boxes, key=boxes.get), max(boxes, key=boxes.get)
    assert (f"fewest training boxes is {fewest}: {boxes[fewest]}" in steps) == (
        2 * boxes[fewest] <= boxes[most])
    errors = read(root, "eval/errors.json")
    errors["causes"]["class"]["ap50_gain"] = 0.3
    (root / "eval/errors.json").write_text(json.dumps(errors))
    assert "Most costly are objects found as another class" in "\n".join(
        next_steps(material_of(root)))


def test_more_images_than_a_page_holds_are_said_and_the_worst_are_shown(
    tmp_path, undrawn, monkeypatch):
    monkeypatch.setattr("scripts.report.crops.EXAMPLES", 3)
    monkeypatch.setattr("scripts.report.crops.CROPS", 2)
    monkeypatch.setattr("scripts.report.crops.CROPS_A_CAUSE", 1)
    root = made_project(tmp_path, images=8)
    summary, page = make_report(root), page_of(root)
    errors, island = read(root, "eval/errors.json"), json.loads(page.island)
    of_all = f"{len(island['errors'])} of {len(errors['errors'])}"
    assert len(island["examples"]) == 3 and EXAMPLES > 8
    assert f"3 of 8 test images, {of_all} mistakes" in summary
    assert "3 of 8 test images are in this page" in page.sections["examples"]
    assert f"{of_all} have an image here" in page.sections["errors"]
    assert {row["cause"] for row in island["errors"]} == {row["cause"] for row in errors["errors"]}
    material = material_of(root)
    start = round(100 * material.start_score)
    every = count(material.groundtruth, material.detections).found
    wrong = {f"images/test/p{image_id:04}.jpg": sum(
        row.state == WRONG and row.hundredth >= start for row in found)
             for image_id, found in every.items()}
    assert sum(wrong[row["file"]] for row in island["examples"]) >= sum(sorted(wrong.values())[-2:])


def test_an_image_that_is_gone_leaves_its_place(tmp_path, undrawn):
    root = made_project(tmp_path, images=2)
    (root / "images/test/p0001.jpg").unlink()
    make_report(root)
    jpegs = {row["file"]: row["jpeg"] for row in json.loads(page_of(root).island)["examples"]}
    assert jpegs["images/test/p0001.jpg"] == "" and jpegs["images/test/p0002.jpg"]


@pytest.mark.parametrize(
    "boxes", [[(10, 10, 30, 20)], [(-5, -5, 500, 20), (0, 0, 1, 1)], [(99, 79, 100, 80)], []])
def test_a_crop_lies_in_the_image_and_shows_the_boxes(boxes):
    left, top, right, bottom = window((100, 80), boxes)
    assert 0 <= left < right <= 100 and 0 <= top < bottom <= 80
    for xmin, ymin, xmax, ymax in boxes:
        assert left <= max(0, xmin)
        assert top <= max(0, ymin)
        assert right >= min(100, xmax)
        assert bottom >= min(80, ymax)


# `inference/MODEL_CARD.md`: facts of the files, and nothing that a person wrote is lost.


CARD = "inference/MODEL_CARD.md"


@pytest.fixture
def project_of_report_card(tmp_path, undrawn):
    root = made_project(tmp_path, images=3)
    make_report(root)
    return root


def card_of(root) -> str:
    return (root / CARD).read_text("utf-8")


def test_the_card_holds_the_measured_facts(project_of_report_card):
    text = card_of(project_of_report_card)
    for fact in ("`lite0-256`, input 256 x 256 px",
                 "`tflite/detector_int8.tflite`, 3,750,880 bytes",
                 "AP 47.1, AP50 81.2", "6 test images tell little", "missed: objects not found",
                 "license: Apache-2.0",
                 "2 classes: apple, "):
        assert fact in text, fact
    assert "Not known to this project: write it here." in sections(text)["License of the images"]
    assert len(sections(text)) == 9


def test_what_a_person_wrote_is_kept(project_of_report_card):
    text = card_of(project_of_report_card)
    own = "Sorting fruit.\n\n### Not for\n\n```\n## no heading\n```\nMedicine."
    text = text.replace(sections(text)["Intended use"], own)
    text = text.replace(sections(text)["License of the images"], "All ours, CC0.")
    (project_of_report_card / CARD).write_text(
        text.replace("256 x 256 px", "1 px") + "\n## Thanks\n\nTo the market.\n", "utf-8")
    make_report(project_of_report_card)
    kept = sections(card_of(project_of_report_card))
    assert kept["Intended use"] == own and kept["License of the images"] == "All ours, CC0."
    assert kept["Thanks"] == "To the market." and "256 x 256 px" in kept["Model"]
    once = card_of(project_of_report_card)
    make_report(project_of_report_card)
    assert card_of(project_of_report_card) == once


def test_licenses_of_open_images_are_summed_up(project_of_report_card):
    folder = project_of_report_card / "images/source/openimages"
    folder.mkdir(parents=True)
    rows = ["ImageID,Split,Author,License", "a,train,A,https://cc/by", "b,train,,https://cc/by",
            "c,test,C,"]
    (folder / "ATTRIBUTION.csv").write_text("\n".join(rows), "utf-8")
    make_report(project_of_report_card)
    data = sections(card_of(project_of_report_card))["Data"]
    assert "https://cc/by (2), not named (1); 2 of 3 images name their author" in data


def test_a_card_that_is_no_text_is_refused_and_kept(project_of_report_card):
    (project_of_report_card / CARD).write_bytes(b"\xff\xfe## Intended use")
    with pytest.raises(DetectorError, match="MODEL_CARD.md"):
        make_report(project_of_report_card)
    assert (project_of_report_card / CARD).read_bytes() == b"\xff\xfe## Intended use"


def test_a_project_without_anything_has_a_card_that_says_so(tmp_path):
    make_report(tmp_path)
    assert "Not trained yet: `invoke train`." in card_of(tmp_path)
