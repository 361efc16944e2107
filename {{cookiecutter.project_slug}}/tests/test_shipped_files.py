"""What `invoke tflite` writes about its files: whose they are, what they score, and that they are
what was scored."""

import json

import pytest
from small_project import settings_of

pytestmark = pytest.mark.slow


@pytest.fixture
def made(copy, monkeypatch):
    """A small project after `tflite`, and the bytes of each file as LiteRT was given them to be
    scored."""
    from scripts.deploy import reader
    from scripts.steps.evaluate import evaluate
    from scripts.steps.tflite import tflite

    scored, init = {}, reader.TfliteDetector.__init__

    def noting(self, path, threads=2):
        scored[path.name] = path.read_bytes()
        init(self, path, threads)

    monkeypatch.setattr(reader.TfliteDetector, "__init__", noting)
    (copy / "pyproject.toml").write_text(
        '[project]\nname = "obst"\nauthors = [{ name = "Ada Ä" }]\nlicense = "MIT"\n', "utf-8"
    )
    evaluate(copy, "best", 0.01, 100, 1.0)
    # Two steps of training find nothing: what is tested is where the advice goes.
    analysis = json.loads((copy / "eval/analysis.json").read_text("utf-8"))
    analysis["thresholds"]["all"]["best_f1"] = {
        "score": 0.35, "precision": 0.9, "recall": 0.72, "f1": 0.8}
    (copy / "eval/analysis.json").write_text(json.dumps(analysis), "utf-8")
    tflite(copy, "folder", settings_of(copy))
    return copy, scored


def test_files_carry_owner_advice_and_scores_and_the_network_that_was_scored(made):
    from scripts.core.files import sha256_file
    from scripts.deploy.metadata import read_metadata
    from scripts.deploy.tflite_file import split_files
    from scripts.tools.predict import predict

    root, scored = made
    metrics = json.loads((root / "tflite/metrics.json").read_text("utf-8"))
    assert metrics["advised_score_threshold"] == 0.35
    assert metrics["at_advised_threshold"] == {
        "split": "test", "F1": 0.8, "precision": 0.9, "recall": 0.72}
    scores = {name: row["AP"] for name, row in metrics["variants"].items()}
    assert set(scores) == {"float32", "int8"}
    for name, row in metrics["variants"].items():
        path = root / row["file"]
        shipped, before = split_files(path.read_bytes())[0], split_files(scored[path.name])[0]
        assert shipped == before and len(
            shipped) > 1e6, "the network has every byte that was scored"
        assert row["sha256"] == sha256_file(path) and row["bytes"] == path.stat().st_size
        about = read_metadata(path)
        assert [about[key] for key in ("name", "author", "license")] == ["obst", "Ada Ä", "MIT"]
        assert about["description"] == (f"Object detector lite0-256 ({name}). "
                                        "Show detections from a score of 0.35 on.")
        provenance = about["provenance"]
        assert provenance["AP"] == {
            "split": "test", "checkpoint": metrics["checkpoint"]["AP"], **scores}
        assert provenance["variant"] == name and provenance["advised_score_threshold"] == 0.35
        assert provenance["settings"]["train.batch_size"] == 8
        assert provenance["training"]["steps"] == 2
    image = next((root / "images/test").glob("*.jpg"))
    counts = predict([image], root / "tflite/detector_int8.tflite", root / "out")
    assert counts.threshold == 0.35 and counts.reason == "advised by the model"
