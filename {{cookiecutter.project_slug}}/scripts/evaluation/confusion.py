"""The confusion matrix of a detector: which class the found boxes were taken for, with background on both sides."""

from scripts.evaluation.matching import match

BACKGROUND = "background"


def confusion(groundtruth: dict, detections: list[dict], score: float) -> dict:
    """`score`, `labels` (classes, then background) and `rows` of counts: rows are the truth, columns what was found.

    Detections from `score` 0..1 on are matched at IoU 0.5 whatever their class, the best first. The last row counts
    boxes found where nothing is, the last column boxes that were missed. Crowds count neither way.
    """
    places = {category["id"]: place for place, category in enumerate(groundtruth["categories"])}
    truth = {row["id"]: places[row["category_id"]] for row in groundtruth["annotations"] if not row["iscrowd"]}
    background = len(places)
    rows = [[0] * (background + 1) for _ in range(background + 1)]
    for row in match(groundtruth, [row for row in detections if row["score"] >= score], by_class=False).rows:
        if not row.ignored:
            rows[truth.pop(row.annotation_id) if row.hit else background][places[row.category_id]] += 1
    for place in truth.values():  # those that nothing was matched with
        rows[place][background] += 1
    labels = [category["name"] for category in groundtruth["categories"]]
    return {"score": score, "labels": [*labels, BACKGROUND], "rows": rows}
