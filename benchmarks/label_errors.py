"""How many label errors `invoke suspects` finds: 5 % of the labels of a set are corrupted, then
trained on.

python -m benchmarks.label_errors --out FOLDER NAME=PATH [NAME=PATH ...] [--steps 800] [--share
0.05] [--seed 7]

Equal parts: another class, a box moved and scaled (IoU 0.3 to 0.6), a box dropped, a box added
where none is; in all splits. Counted is how many are among the first tenth of the list (boxes / 10
entries), and at which rank each is. Errors that were in the set before are not counted as right. A
project that is there is not trained again.
"""

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path

from benchmarks.corrupted import KINDS, corrupt, iou
from benchmarks.recipe import invoke, prepare

SAME_PX = 0.5


def main() -> None:
    """Train what is missing, then print the ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--core", default="0")
    options = parser.parse_args()
    options.out = options.out.resolve()
    for each in options.sets:
        name, path = each.split("=", 1)
        project = options.out / f"{name}-{options.seed}"
        train(options, options.out / "base" / name, project, Path(path).resolve())
        print_ranks(name, project)


def train(options, base: Path, project: Path, source: Path) -> None:
    """A project with corrupted labels, trained on them, and the list of all its suspects."""
    prepare(base, source)
    answers = project / "corruptions.json"
    if not answers.is_file():
        shutil.rmtree(project, ignore_errors=True)
        shutil.copytree(base, project)
        answers.write_text(
            json.dumps(corrupt(project, options.share, options.seed), indent=1), encoding="utf-8")
    images = sum(1 for _ in (project / "images/train").glob("*.xml"))
    settings = {"INVOKE_TRAIN_MINUTES": "0",
                "INVOKE_TRAIN_EPOCHS": str(round(options.steps * 8 / images)),
                "INVOKE_CHECK_ACCEPT": '["E002"]', "TF_NUM_INTRAOP_THREADS": "1",
                "TF_NUM_INTEROP_THREADS": "1"}
    for task in (["evaluate"], ["suspects", "--count", "1000000"]):
        invoke(project, task, settings, ("taskset", "-c", options.core))


def print_ranks(name: str, project: Path) -> None:
    """Recall in the first tenth by kind, whether the kind was right, and the curve over the list.
    """
    answers = json.loads((project / "corruptions.json").read_text(encoding="utf-8"))
    found = json.loads((project / "eval/suspects.json").read_text(encoding="utf-8"))
    tenth, ranks = round(found["boxes"] / 10), defaultdict(list)
    for answer in answers:
        hit = next((row for row in found["suspects"] if is_about(row, answer)), None)
        ranks[answer["kind"]].append((hit["rank"], hit["kind"]) if hit else (None, None))
    print(
        f"{name}: {found['images']} images, {found['boxes']} boxes, {len(answers)} corrupted, first {tenth}")
    print("| kind | corrupted | in the first tenth | with the right kind | ranks |\n" + "|---" * 5
          + "|")
    for kind in filter(ranks.get, KINDS):
        inside = [named for rank, named in ranks[kind] if rank and rank <= tenth]
        places = ", ".join(str(rank) for rank in sorted(rank for rank, _ in ranks[kind] if rank))
        print(f"| {kind} | {len(ranks[kind])} | {len(inside)} | {inside.count(kind)} | {places} |")
    every = [rank for rows in ranks.values() for rank, _ in rows if rank]
    curve = [(share, sum(rank <= share * found["boxes"] for rank in every) / len(answers))
             for share in (0.02, 0.05, 0.1, 0.2, 0.3)]
    print("found in the first", ", ".join(f"{share:.0%}: {part:.0%}" for share, part in curve),
          flush=True)


def is_about(row: dict, answer: dict) -> bool:
    """Whether an entry of the list points at the corrupted label, or at the place of the dropped
    one."""
    if row["file"] != answer["file"] or (row["kind"] == "missing") != (answer["kind"] == "missing"):
        return False
    if row["kind"] == "missing":
        return iou(row["suggested_box_xyxy_px"], answer["box_px"]) >= 0.5
    return all(abs(one - other) <= SAME_PX
               for one, other in zip(row["box_xyxy_px"], answer["box_px"], strict=True))


if __name__ == "__main__":
    main()
