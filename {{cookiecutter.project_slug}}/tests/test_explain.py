"""`invoke check --explain`: every code has its plain sentences."""

import re

import pytest

from scripts.core.text import DetectorError
from scripts.data.explanations import CATALOG, explain


@pytest.mark.parametrize("code", CATALOG)
def test_every_code_is_explained_in_a_few_sentences(code):
    text = explain(code.lower())
    assert CATALOG[code].title in text and max(map(len, text.splitlines())) <= 100
    assert 1 <= len(re.findall(r"[.?:](?: |$)", CATALOG[code].why)) <= 6
    assert ("check.accept" in text) == (CATALOG[code].severity == "error")
    assert CATALOG[code].severity != "error" or CATALOG[code].accepted


def test_what_fix_does_and_what_accepting_means():
    text = " ".join(explain("E005").split())
    assert "clips it to the image when it leaves by at most 10 %" in text and 'check.accept = ["E005"]' in text
    assert "only a person can decide" in explain("E010")


def test_no_code_lists_all():
    lines = explain("").splitlines()
    assert [line[:4] for line in lines[: len(CATALOG)]] == sorted(
        CATALOG, key=lambda code: ("EWR".index(code[0]), code)
    )


def test_an_unknown_code_is_one_line_with_the_nearest():
    with pytest.raises(DetectorError, match="'E05' is no code, the nearest is 'E0.5'") as refused:
        explain("e05")
    assert "\n" not in str(refused.value)
