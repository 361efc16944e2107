"""The page of `invoke report` in headless Chromium: the slider, the images, the filters, a phone;
skipped without."""

import json

import pytest
from browser import Site, missing_browser
from made_report import CLASSES, HOSTILE, made_project

from scripts.tools.report import make_report

pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(bool(missing_browser()), reason=missing_browser())]

HELPERS = """
    const doc = page.document, score = doc.getElementById("score");
    const all = (what) => [...doc.querySelectorAll(what)];
    const frame = () => new Promise((done) => page.requestAnimationFrame(done));
    const frames = () => frame().then(frame);
    const cells = (row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent);
    await until(() => doc.documentElement.dataset.ready);
    const see = async (name) => {
        doc.getElementById(name).scrollIntoView();
        await until(() => doc.getElementById(name).childElementCount);
    };
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = made_project(tmp_path_factory.mktemp("page"), images=30)
    make_report(root)
    return root


def visit(root, script: str, **options):
    """What `script` returns; no console error and no request but for the two pages are part of
    every visit."""
    with Site(root / "eval") as site:
        result = site.visit(HELPERS + script, page="/report.html", **options)
        assert not site.console, site.console
        assert set(site.asked) - {"/favicon.ico"} == {"/host.html", "/report.html"}
    return result


def iou(box, other) -> float:
    """Of two boxes x, y, w, h."""
    wide = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    high = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    both = max(wide, 0) * max(high, 0)
    return both / (box[2] * box[3] + other[2] * other[3] - both)


def counted_by_hand(root, least_score: float, kind: int) -> list[int]:
    """Right, false and missed of a class, by matching anew: best first, the label that overlaps
    most, crowds last."""
    truth = json.loads((root / "eval/groundtruth.json").read_text("utf-8"))
    found = [row for row in json.loads((root / "eval/detections.json").read_text("utf-8"))
             if row["category_id"] == kind and row["score"] >= least_score]
    labels = [row for row in truth["annotations"] if row["category_id"] == kind]
    taken, right, wrong = set(), 0, 0
    for row in sorted(found, key=lambda detection: -detection["score"]):
        near = [label for label in labels
                if label["image_id"] == row["image_id"] and label["id"] not in taken]
        scored = [label for label in near
                  if not label["iscrowd"] and iou(row["bbox"], label["bbox"]) >= 0.5]
        if scored:
            taken.add(max(scored, key=lambda label: iou(row["bbox"], label["bbox"]))["id"])
            right += 1
        elif not any(
            label["iscrowd"] and overlap_of(row["bbox"], label["bbox"]) >= 0.5 for label in near):
            wrong += 1
    return [right, wrong, sum(not label["iscrowd"] for label in labels) - right]


def overlap_of(box, crowd) -> float:
    """The share of `box` that lies in `crowd`: what COCO compares there."""
    wide = min(box[0] + box[2], crowd[0] + crowd[2]) - max(box[0], crowd[0])
    high = min(box[1] + box[3], crowd[1] + crowd[3]) - max(box[1], crowd[1])
    return max(wide, 0) * max(high, 0) / (box[2] * box[3])


def test_the_slider_shows_the_counts_of_its_score(project):
    hundredths = [1, 25, 50, 77, 99]
    seen = visit(project, f"""
        const seen = [];
        for (const value of {hundredths}) {{
            score.value = value;
            score.dispatchEvent(new page.Event("input"));
            await frames();
            const rows = all("#class-counts tr, #all-counts");
            seen.push([doc.getElementById("score-now").textContent, ...rows.map(cells)]);
        }}
        return seen;""")
    for hundredth, (shown, whole, *by_class) in zip(hundredths, seen, strict=True):
        wanted = [
            counted_by_hand(project, hundredth / 100, kind) for kind in range(1, len(CLASSES) + 1)]
        assert shown == f"{hundredth / 100:.2f}"
        assert [[int(cell) for cell in row[:3]] for row in by_class] == wanted
        right, wrong, missed = map(sum, zip(*wanted, strict=True))
        assert [int(cell) for cell in whole[:3]] == [right, wrong, missed]
        assert whole[3] == (f"{100 * right / (right + wrong):.1f} %" if right + wrong else "-")
        assert whole[4] == f"{100 * right / (right + missed):.1f} %"


def test_images_load_and_their_boxes_follow_the_slider(project):
    loaded, boxes, captions, files = visit(project, """
        const before = all("img").length;
        for (const name of ["example-list", "error-list", "suspect-list"]) await see(name);
        doc.getElementById("more-examples").click();
        await until(() => all("img").every((image) => image.complete));
        score.value = 40;
        score.dispatchEvent(new page.Event("input"));
        await frames();
        const tiles = all("#example-list .tile");
        return [all("img").every((image) => image.naturalWidth > 0) && all("img").length - before,
                tiles.map((tile) => tile.querySelectorAll(".box:not(.missed)").length),
                ...[1, 2].map(
                    (place) => tiles.map((tile) => tile.children[place].textContent))];""")
    assert loaded >= 30 + 20 + 20 and len(files) == 30
    truth = json.loads((project / "eval/groundtruth.json").read_text("utf-8"))
    names = {row["id"]: f"images/test/{row['file_name']}" for row in truth["images"]}
    found = [names[row["image_id"]]
             for row in json.loads((project / "eval/detections.json").read_text("utf-8"))
             if row["score"] >= 0.4]
    assert boxes == [found.count(file) for file in files]
    wanted = [
        sum(counted_by_hand(project, 0.4, kind)[place] for kind in (1, 2)) for place in range(3)]
    seen = [sum(int(caption.split(", ")[place].split()[0]) for caption in captions)
            for place in range(3)]
    assert seen == wanted


def test_filters_show_what_they_say(project):
    causes, kinds, mistakes = visit(project, """
        const causes = {};
        for (const button of all("button[data-cause]")) {
            button.click();
            const cause = button.dataset.cause, more = doc.getElementById("more-errors");
            while (!more.hidden) more.click();
            causes[cause] = [all("#error-list .tile").length, Number(button.dataset.count),
                all("#error-list b").every((title) => title.textContent.startsWith(cause))];
        }
        const mistakes = doc.getElementById("mistakes");
        await see("example-list");
        mistakes.checked = true;
        mistakes.dispatchEvent(new page.Event("change"));
        const captions = all("#example-list .tile").map((tile) => tile.children[1].textContent);
        const clean = captions.filter((text) => text.includes(" 0 false, 0 missed")).length;
        return [causes, all("#class option").length, [captions.length, clean]];""")
    errors = json.loads((project / "eval/errors.json").read_text("utf-8"))
    assert causes.pop("") == [len(errors["errors"])] * 2 + [True]
    assert causes == {
        name: [row["count"]] * 2 + [True] for name, row in errors["causes"].items() if row["count"]}
    assert kinds == 1 + len(CLASSES) and mistakes[0] > 0 and mistakes[1] == 0


def test_a_phone_shows_hostile_names_without_scrolling_sideways(tmp_path):
    root = made_project(tmp_path, images=4, classes=HOSTILE)
    make_report(root)
    wide, hacked, names = visit(root, """
        for (const name of ["example-list", "error-list", "suspect-list"]) await see(name);
        await until(() => all("img").every((image) => image.complete));
        const names = all("#class option").map((option) => option.textContent);
        return [doc.documentElement.scrollWidth, page.hacked ?? 0, names];
        """, width_px=360)
    assert wide <= 360 and hacked == 0
    assert names[1:] == [" ".join(name.split()) for name in HOSTILE]
