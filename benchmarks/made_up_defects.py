"""How many planted defects `check` names with the right code and file, and what it says of files
that are fine.

python -m benchmarks.made_up_defects [--each 50] [--clean 300] [--keep FOLDER]

The set is drawn by the project's demo code, split into train, validation and test, and has one
defect an image.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.defect_kinds import KINDS, Kind, Spot
from tools.bake import TEMPLATE

SIZE_PX = 192
SHARES = ("train",) * 7 + ("validation",) * 2 + ("test",)
OTHER = {"train": "test", "validation": "train", "test": "validation"}


def main() -> None:
    """Draw, plant, run organize and check, then `--fix` and check; print a row a kind, then the
    false alarms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=50, help="defects of each kind")
    parser.add_argument("--clean", type=int, default=300, help="images without a defect")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept afterwards")
    options = parser.parse_args()
    sys.path.insert(0, str(TEMPLATE / "{{cookiecutter.project_slug}}"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        planted = plant(folder / "source", options.each, options.clean)
        before, after, seconds = reports(folder / "project")
    print_rows(planted, before, after)
    print_false_alarms(planted, before)
    print(
        f"\n{len(planted):,} defects, one an image; organize {seconds[0]:.1f} s, "
        f"check {seconds[1]:.1f} s, check --fix {seconds[2]:.1f} s"
    )


def plant(source: Path, each: int, clean: int) -> list[tuple[Kind, set[str]]]:
    """Draw the set and plant the defects; each with the files that it touches, below `source`."""
    from scripts.data.demo.scene import draw_demo

    drawn = source.parent / "drawn"
    draw_demo(drawn, clean + round(each * len(KINDS) * 1.3), SIZE_PX, seed=11)
    spots = []
    for index, image in enumerate(sorted(drawn.glob("*.jpg"))):
        split = SHARES[index % len(SHARES)]
        target = source / split / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        image.rename(target)
        image.with_suffix(".xml").rename(target.with_suffix(".xml"))
        spots.append(Spot(target, source / OTHER[split] / f"copy_{image.name}"))
    planted, labeled = [], [spot for spot in spots[clean:] if "<object>" in spot.text()]
    for index, spot in enumerate(labeled[: each * len(KINDS)]):
        kind = KINDS[index % len(KINDS)]
        kind.plant(spot)
        stems = {spot.image.with_suffix(""), spot.other.with_suffix(""),
                 Path(f"{spot.image.with_suffix('')}_copy")}
        planted.append((kind, {path.relative_to(source).as_posix() for path in stems}))
    return planted


def reports(project: Path) -> tuple[list[dict], list[dict], list[float]]:
    """Findings of check, findings after `--fix`, and the seconds of organize, check and `--fix`."""
    from scripts.core.schema import Check, Demo, Source, Split
    from scripts.core.text import DetectorError
    from scripts.data.demo.scene import CLASSES
    from scripts.steps.check import check, fix
    from scripts.steps.organize import organize

    project.mkdir()
    source = Source("folder", "../source", "auto", tuple(CLASSES), "error", "error", False)
    seconds, found = [], []
    for run in (
        lambda: organize(project, source, Demo(1, 64, 0), Split("auto", 0.15, 0.15, 7)),
        lambda: check(project, source, Check((), 1), 256),
        lambda: fix(project, source, Check((), 1), 256),
    ):
        started_s = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(DetectorError):
            run()
        seconds.append(time.perf_counter() - started_s)
        report = project / "annotations/check.json"
        if report.is_file():
            found.append(json.loads(report.read_text("utf-8"))["findings"])
    return found[0], found[1], seconds


def place(file: str) -> str:
    """A file of a report as `split/name` without ending, that of `images/` and of the source alike.
    """
    return "/".join(Path(file).with_suffix("").as_posix().split("/")[-2:])


def print_rows(planted: list[tuple[Kind, set[str]]], before: list[dict], after: list[dict]) -> None:
    """A row a kind: planted, found with the right code and file, named with another code only, left
    after `--fix`."""
    rows = {kind.name: Counter() for kind in KINDS}
    codes, left = (defaultdict(lambda: defaultdict(set)) for _ in range(2))
    for report, into in ((before, codes), (after, left)):
        for row in report:
            into[place(row["file"])][row["code"]].add(Path(row["file"]).suffix)
    for kind, places in planted:
        ending = {".xml"} if kind.place == "label" else {".jpg", ".png"}
        found = any(codes[one][kind.code] & ending for one in places)
        other = any(set(codes[one]) for one in places)
        rows[kind.name].update(
            planted=1, found=found, other=other and not found,
            left=any(left[one][kind.code] for one in places)
        )
    print(
        "| defect | code | planted | found | only under another code | left after --fix |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        row = rows[kind.name]
        left_now = "repaired at once" if kind.code.startswith("R") else row["left"]
        print(
            f"| {kind.name} | {kind.code} | {row['planted']} | {row['found']} | {row['other']} | {left_now} |")
    total = sum((row for row in rows.values()), Counter())
    print(f"| all | | {total['planted']} | {total['found']} | {total['other']} | |")


def print_false_alarms(planted: list[tuple[Kind, set[str]]], before: list[dict]) -> None:
    """Findings about files without a defect, by code; then codes beside the right one on files that
    have one."""
    kinds = {one: kind for kind, places in planted for one in places}
    false, beside = Counter(), Counter()
    for row in before:
        kind = kinds.get(place(row["file"]))
        if kind is None:
            false[row["code"], row["message"][:90]] += 1
        elif row["code"] != kind.code and row["code"] not in kind.also:
            beside[kind.name, row["code"]] += 1
    print(f"\nfindings about files without a defect: {sum(false.values())}")
    for (code, message), count in sorted(false.items()):
        print(f"  {code} x {count}: {message}")
    print(f"other codes on files with a defect: {sum(beside.values())}")
    for (name, code), count in sorted(beside.items()):
        print(f"  {name}: {code} x {count}")


if __name__ == "__main__":
    main()
