"""`invoke web`: its refusals, and its page in headless Chromium beside our own reader.

The tests with a browser need what tests/browser.py names, and are skipped without it.
"""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from browser import VARIABLE, Site, missing, predicted_rows
from made_tflite import LABELS, image, tiny_tflite
from PIL import Image

from scripts.core.text import DetectorError
from scripts.tools.web import NEEDED, PAGE, make_web

in_browser = pytest.mark.skipif(bool(missing()), reason=missing())
EDGE_TOLERANCE = 1 / 1000
"""Of the side: MediaPipe cuts where a box begins and how long it is down to whole 1024ths, the page
adds the middle."""

SCORE_TOLERANCE = 1e-4


def shipped(folder, variant="int8", labels=LABELS):
    """The tiny detector as a shipped file."""
    from scripts.deploy.metadata import with_metadata

    path = folder / f"detector_{variant}.tflite"
    about = {"name": "tiny things", "description": "d", "author": "a", "license": "l"}
    path.write_bytes(with_metadata(tiny_tflite(variant), list(labels), **about, provenance={}))
    return path


def refusal(*arguments) -> str:
    with pytest.raises(DetectorError) as caught:
        make_web(*arguments)
    text = str(caught.value)
    assert "\n" not in text and len(re.split(r": ", text)) >= 3, text
    return text


def test_a_folder_that_is_not_the_package_is_refused(tmp_path, package):
    model, out = tmp_path / "m.tflite", tmp_path / "out"
    assert "--bundle" in refusal(model, None, out)
    assert "nowhere" in refusal(model, tmp_path / "nowhere", out)
    assert "no package.json" in refusal(model, tmp_path, out)
    (package / NEEDED[2]).unlink()
    assert f"lacks {NEEDED[2]}" in refusal(model, package, out)
    for text in ('{"name": "left-pad"}', "[]", "{", "\xff"):
        (package / "package.json").write_text(text, "latin-1")
        assert "npm pack @mediapipe/tasks-vision" in refusal(model, package, out)
    assert not out.exists()


def test_a_model_that_is_missing_or_no_file_is_refused(tmp_path, package):
    assert "run `invoke tflite` first" in refusal(tmp_path / "m.tflite", package, tmp_path / "out")
    assert "a folder" in refusal(tmp_path, package, tmp_path / "out")
    (tmp_path / "m.tflite").write_bytes(b"no model")
    assert "m.tflite" in refusal(tmp_path / "m.tflite", package, tmp_path / "out")


def test_the_page_names_no_other_server_and_forbids_all():
    for path in PAGE.iterdir():
        text = path.read_text("utf-8")
        assert not re.findall(r"(?:https?:)?//(?!localhost)[a-z0-9-]+\.[a-z]", text), path.name
    policy = re.search(
        r'Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text("utf-8"))[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules["connect-src"].split()) <= {"'self'", "blob:"}
    assert all("*" not in rule and "http" not in rule for rule in rules.values())


@pytest.mark.slow
def test_the_folder_holds_all_and_nothing_of_the_user_is_lost(tmp_path, package):
    model, out = shipped(tmp_path), tmp_path / "my page"
    (package / "wasm" / "vision_wasm_module_internal.wasm").write_text("not needed")
    text = make_web(model, package, out)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {"about.json", "detector.js", "detector.tflite", "index.html", "page.css",
                     "page.js", *NEEDED}
    assert f"tasks-vision 1.2.3, {len(files)} files" in text
    about = json.loads((out / "about.json").read_text("utf-8"))
    assert (about["labels"], about["input_px"], about["file"]) == (
        list(LABELS), 32, "detector_int8.tflite")
    assert (out / "detector.tflite").read_bytes() == model.read_bytes()
    (out / "mine.txt").write_text("mine")
    other = shipped(tmp_path, labels=[f"new {name}" for name in LABELS])
    make_web(other, package, out)
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "detector.tflite").read_bytes() == other.read_bytes()
    assert json.loads((out / "about.json").read_text("utf-8"))["labels"][0] == "new red"
    assert "not a folder" in refusal(model, package, out / "mine.txt")


@pytest.mark.slow
def test_a_full_disk_leaves_the_older_page_whole(tmp_path, package, monkeypatch):
    out = tmp_path / "page"
    make_web(shipped(tmp_path), package, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    copy = shutil.copyfile

    def copy_until_full(source, target):
        if Path(source).name == "detector_int8.tflite":
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_until_full)
    (package / NEEDED[0]).write_text("of another version")
    with pytest.raises(OSError):
        make_web(shipped(tmp_path, labels=[f"new {name}" for name in LABELS]), package, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page with the tiny detector, made of the real package."""
    home = tmp_path_factory.mktemp("дом")
    make_web(shipped(home), Path(os.environ[VARIABLE]), home / "web page")
    return home / "web page"


def photographs(folder) -> dict[str, Path]:
    """Images whose every pixel matters, as address -> path."""
    import numpy as np

    paths = {}
    for number, (size, name, options) in enumerate([
        ((320, 320), "square.png", {}), ((701, 403), "wide.png", {}), ((97, 230), "high.png", {}),
        ((640, 481), "photo.jpg", {"quality": 90}),
        ((500, 300), "turned.jpg", {"quality": 95, "exif": turned(6)}),
        ((31, 19), "small.png", {}), ((200, 300), "clear.png", {}),
    ]):  # fmt: skip
        noise = np.random.default_rng(number).integers(0, 100, (size[1], size[0], 3))
        cells = {(number % 4, 0): number, (1, 1): 0, (2, 2): (number + 3) % 7, (3, 3): 6, (0, 3): 4}
        drawn = Image.fromarray(image(cells)).resize(size)
        noisy = Image.fromarray(np.clip(np.abs(np.int64(drawn) - noise), 0, 255).astype(np.uint8))
        if name == "clear.png":
            noisy.putalpha(Image.fromarray(np.uint8(noise[..., 0] * 2)))
        path = folder / name
        noisy.save(path, **options)
        paths[f"/images/{name}"] = path
    return paths


def turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.slow
@in_browser
def test_the_browser_finds_what_our_reader_finds(folder, tmp_path):
    images = photographs(tmp_path)
    with Site(folder, images) as site:
        found = site.visit(f"""
            const rows = [];
            for (const url of {json.dumps(list(images))}) rows.push(await page.detectUrl(url));
            return rows;""")
    assert [row["file"] for row in found] == list(images)
    total = 0
    for row in found:
        size, ours = predicted_rows(images[row["file"]], folder / "detector.tflite")
        assert (row["width"], row["height"]) == size
        assert [one["class"] for one in row["detections"]] == [
            one["class"] for one in ours], row["file"]
        for theirs, our in zip(row["detections"], ours, strict=True):
            assert theirs["class_id"] == our["class_id"]
            assert theirs["score"] == pytest.approx(our["score"], abs=SCORE_TOLERANCE)
            for edge, expected, side in zip(
                theirs["box_xyxy_px"], our["box_xyxy_px"], size * 2, strict=True):
                assert edge == pytest.approx(expected, abs=EDGE_TOLERANCE * side), (
                    row["file"], theirs, our)
        total += len(ours)
    assert total >= 15


@pytest.mark.slow
@in_browser
def test_the_reader_in_the_docs_works(folder, tmp_path):
    page = (PAGE.parents[1] / "docs/browser.md").read_text("utf-8")
    (own,) = re.findall(r"^```js\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "own.js").write_text(own, "utf-8")
    Image.fromarray(image({(0, 1): 2, (2, 2): 4}, 200)).save(tmp_path / "a.png")
    with Site(folder, {"/own.js": tmp_path / "own.js", "/a.png": tmp_path / "a.png"}) as site:
        printed = site.visit("""
            const input = document.createElement("input"), files = new DataTransfer(), printed = [];
            files.items.add(new File([await (await fetch("/a.png")).blob()], "a.png"));
            Object.assign(input, { type: "file", files: files.files });
            document.body.append(input);
            // MediaPipe prints lines of its own
            console.log = (...words) => words.length > 1 && printed.push(words);
            await import("/own.js");
            return printed;""")
    _, ours = predicted_rows(tmp_path / "a.png", folder / "detector.tflite")
    assert {name: number for name, number, *_ in printed} == {
        one["class"]: one["class_id"] for one in ours}
    assert sorted(LABELS[number] for _, number, *_ in printed) == ["blue", "magenta"]
    assert all(0.3 < score <= 1 and len(box) == 4 for _, _, score, box in printed)


@pytest.mark.slow
@in_browser
def test_boxes_are_drawn_where_they_are_and_the_threshold_hides_some(folder, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(image({(0, 0): 0, (2, 3): 1}, 320, dim=0.8)).save(path)
    with Site(folder, {"/a.png": path}) as site:
        seen = site.visit("""
            await page.detectUrl("/a.png");
            const doc = page.document, image = doc.querySelector("img");
            await image.decode();
            const frame = image.getBoundingClientRect();
            const boxes = [...doc.querySelectorAll(".box")].map((box) => {
              const at = box.getBoundingClientRect();
              const place = [at.left - frame.left, at.top - frame.top];
              return [box.textContent, ...place.map((px) => px / frame.width)];
            });
            const slider = doc.getElementById("threshold");
            slider.value = slider.max;
            slider.dispatchEvent(new Event("input"));
            const caption = doc.querySelector("figcaption").textContent;
            const speed = doc.getElementById("speed").textContent;
            const after = doc.querySelectorAll(".box").length;
            return { boxes, title: doc.title, after, caption, speed };""")
    boxes = {text.split(" ")[0]: corner for text, *corner in seen["boxes"]}
    assert boxes["red"] == pytest.approx([0, 0], abs=0.06)
    assert boxes["green"] == pytest.approx([0.75, 0.5], abs=0.06)
    assert all(re.fullmatch(r"\w+ 0\.\d\d|\w+ 1\.00", text) for text, *_ in seen["boxes"])
    assert seen["title"] == "tiny things" and seen["after"] == 0
    assert re.fullmatch(r"\d+ ms", seen["speed"])
    assert re.search(r"/a\.png.*found, \d+ ms", seen["caption"])


@pytest.mark.slow
@in_browser
def test_chosen_images_replace_those_before_and_bad_ones_are_named(folder, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"no image")
    for name in ("a.png", "b.png"):
        Image.fromarray(image({(0, 0): 0}, 64)).save(tmp_path / name)
    with Site(folder, {f"/{path.name}": path for path in tmp_path.iterdir()}) as site:
        seen = site.visit("""
            const doc = page.document, input = doc.getElementById("files");
            await until(() => !input.disabled);
            const choose = async (...names) => {
              const files = new page.DataTransfer();
              for (const name of names) {
                const blob = await (await fetch("/" + name)).blob();
                files.items.add(new page.File([blob], name, { type: blob.type }));
              }
              input.files = files.files;
              input.dispatchEvent(new page.Event("change"));
            };
            const files = () => [...doc.querySelectorAll("figure .file")];
            const shown = () => files().map((one) => one.textContent);
            await choose("a.png", "torn.jpg", "b.png");
            await until(() => doc.getElementById("message").className === "error");
            const first = [shown(), doc.getElementById("message").textContent];
            await choose("b.png");
            await until(() => shown().length === 1);
            return [...first, shown()];""")
    assert seen == [["a.png", "b.png"], "torn.jpg: this browser cannot read it.", ["b.png"]]


@pytest.mark.slow
@in_browser
def test_the_page_cannot_reach_another_server(folder, tmp_path):
    with Site(folder) as site, Site(tmp_path) as other:
        answer = site.visit(f"""
            const own = await page.fetch("/about.json");
            const refused = await page.fetch("{other.address}/x", {{ mode: "no-cors" }})
              .catch((error) => error.name);
            const image = new page.Image();
            image.src = "{other.address}/x.png";
            await image.decode().catch(() => 0);
            return [own.ok, refused];""")
    assert answer == [True, "TypeError"] and other.asked == []


@pytest.mark.slow
@in_browser
def test_what_is_missing_is_said_on_the_page(folder, tmp_path):
    message = """
        const doc = page.document, message = doc.getElementById("message");
        await until(() => message.className === "error");
        return message.textContent;"""
    for name, expected in [("detector.tflite", "detector.tflite cannot be loaded (404)"),
                           ("wasm/vision_wasm_internal.js", "a file of wasm/ is missing"),
                           ("vision_bundle.mjs", "cannot be loaded")]:
        copy = Path(shutil.copytree(folder, tmp_path / name.replace("/", " ")))
        (copy / name).unlink()
        with Site(copy) as site:
            said = site.visit(message)
        assert expected in said and "invoke web" in said


@pytest.mark.slow
@in_browser
def test_a_camera_is_watched_and_its_absence_is_said(folder):
    start = """
        const doc = page.document, camera = doc.getElementById("camera");
        const message = doc.getElementById("message");
        await until(() => !camera.disabled);
        camera.click();"""
    with Site(folder) as site:
        said = site.visit(start + """
            await until(() => message.className === "error");
            return message.textContent;""")
        seen = site.visit(start + """
            const live = doc.getElementById("live");
            await until(() => doc.getElementById("speed").textContent && !live.hidden);
            const video = doc.getElementById("video"), tracks = video.srcObject.getTracks();
            camera.click();
            await until(() => doc.getElementById("live").hidden);
            return [video.videoWidth > 0, tracks.every((one) => one.readyState === "ended")];
        """, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    assert said.startswith("No camera: ")
    assert seen == [True, True]
