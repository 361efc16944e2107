"""Seconds to build `eval/report.html`, its size, and seconds until headless Chromium has it open
and painted.

python -m benchmarks.report [--images 60,300,1000] [--rounds 5]

Images are drawn (640 x 480, as heavy as photographs), detections made up: eight classes, two or
three boxes and as many false ones an image. Measured in the page, from the start of its navigation:
until its script has run (`ready`), until the next frame is painted (`painted`), and from a move of
the slider to the next frame; medians of `--rounds` visits, each in a new browser, which paints by
itself: the graphics card that tests of `invoke web` imitate takes two seconds for the first frame.
Other work on the machine shows in all of them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "{{cookiecutter.project_slug}}"
SIZE_PX = (640, 480)
CLASSES = tuple(f"class {number}" for number in range(8))
BUILD = "import sys; from pathlib import Path; from scripts.tools.report import make_report; " \
        "print(make_report(Path(sys.argv[1])))"
OPENED = """
    await until(() => page.document.documentElement.dataset.ready);
    await new Promise((done) => page.requestAnimationFrame(() => page.requestAnimationFrame(done)));
    const opened_ms = [Number(page.document.documentElement.dataset.ready), page.performance.now()];
    const from = page.performance.now(), score = page.document.getElementById("score");
    score.value = 60;
    score.dispatchEvent(new page.Event("input"));
    await new Promise((done) => page.requestAnimationFrame(() => page.requestAnimationFrame(done)));
    return [...opened_ms, page.performance.now() - from];
"""


def main() -> None:
    """Print one line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="60,300,1000")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
    from browser import missing_browser

    if missing_browser():
        sys.exit(missing_browser())
    print("images  mistakes  build s    MB  ready s  painted s  slider s")
    for images in map(int, options.images.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            print(measured(Path(folder), images, options.rounds), flush=True)


def measured(root: Path, images: int, rounds: int) -> str:
    """The line of a project with `images` test images, made in `root`."""
    from browser import Site
    from made_report import made_project

    made_project(root, images, CLASSES, size=SIZE_PX)
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", BUILD, str(root)], cwd=PROJECT, check=True,
                   stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    build_s = time.perf_counter() - started_s
    times_ms = []
    for _ in range(rounds):
        with Site(root / "eval") as site:
            times_ms.append(site.visit(OPENED, "--disable-gpu", page="/report.html"))
    ready_s, painted_s, slider_s = (
        statistics.median(column) / 1000 for column in zip(*times_ms, strict=True))
    mistakes = len(json.loads((root / "eval/errors.json").read_text("utf-8"))["errors"])
    megabytes = (root / "eval/report.html").stat().st_size / 1e6
    return (f"{images:8,}  {mistakes:8,}  {build_s:7.1f}  {megabytes:4.1f}  {ready_s:7.2f}  "
            f"{painted_s:9.2f}  {slider_s:8.3f}")


if __name__ == "__main__":
    main()
