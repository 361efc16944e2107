"""`inference/MODEL_CARD.md`: facts of the files, and nothing that a person wrote is lost."""

import pytest
from made_report import made_project

from scripts.core.text import DetectorError
from scripts.report.card import sections
from scripts.tools.report import make_report

CARD = "inference/MODEL_CARD.md"


@pytest.fixture
def project(tmp_path, undrawn):
    root = made_project(tmp_path, images=3)
    make_report(root)
    return root


def card_of(root) -> str:
    return (root / CARD).read_text("utf-8")


def test_the_card_holds_the_measured_facts(project):
    text = card_of(project)
    for fact in ("`lite0-256`, input 256 x 256 px",
                 "`tflite/detector_int8.tflite`, 3,750,880 bytes",
                 "AP 47.1, AP50 81.2", "6 test images tell little", "missed: objects not found",
                 "license: Apache-2.0",
                 "2 classes: apple, "):
        assert fact in text, fact
    assert "Not known to this project: write it here." in sections(text)["License of the images"]
    assert len(sections(text)) == 9


def test_what_a_person_wrote_is_kept(project):
    text = card_of(project)
    own = "Sorting fruit.\n\n### Not for\n\n```\n## no heading\n```\nMedicine."
    text = text.replace(sections(text)["Intended use"], own)
    text = text.replace(sections(text)["License of the images"], "All ours, CC0.")
    (project / CARD).write_text(
        text.replace("256 x 256 px", "1 px") + "\n## Thanks\n\nTo the market.\n", "utf-8")
    make_report(project)
    kept = sections(card_of(project))
    assert kept["Intended use"] == own and kept["License of the images"] == "All ours, CC0."
    assert kept["Thanks"] == "To the market." and "256 x 256 px" in kept["Model"]
    once = card_of(project)
    make_report(project)
    assert card_of(project) == once


def test_licenses_of_open_images_are_summed_up(project):
    folder = project / "images/source/openimages"
    folder.mkdir(parents=True)
    rows = ["ImageID,Split,Author,License", "a,train,A,https://cc/by", "b,train,,https://cc/by",
            "c,test,C,"]
    (folder / "ATTRIBUTION.csv").write_text("\n".join(rows), "utf-8")
    make_report(project)
    data = sections(card_of(project))["Data"]
    assert "https://cc/by (2), not named (1); 2 of 3 images name their author" in data


def test_a_card_that_is_no_text_is_refused_and_kept(project):
    (project / CARD).write_bytes(b"\xff\xfe## Intended use")
    with pytest.raises(DetectorError, match="MODEL_CARD.md"):
        make_report(project)
    assert (project / CARD).read_bytes() == b"\xff\xfe## Intended use"


def test_a_project_without_anything_has_a_card_that_says_so(tmp_path):
    make_report(tmp_path)
    assert "Not trained yet: `invoke train`." in card_of(tmp_path)
