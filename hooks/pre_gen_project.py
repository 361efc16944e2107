"""Checks the answers before any file is written; the first bad one is refused in one line."""

import json
import re
import sys
import unicodedata

# tojson writes ' < > & as \u00XX and keeps each backslash doubled, so no answer can end the string.
ANSWERS = json.loads(r'''{{ cookiecutter | tojson }}''')
CHOICES = {  # cookiecutter checks these at the prompt, but not when it replays old answers
    "source": ["demo", "folder", "openimages"],
    "model": [
        "lite0-256", "lite0-320", "lite0-384", "lite1-384", "lite2-448", "mnv2-256", "mnv2-320"],
    "license": ["Apache-2.0", "MIT", "none"],
}
EXAMPLES = {"project_name": "Fruit Detector", "author": "Ada Lovelace", "labels": "Apple, Orange"}
SLUG = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
# control characters, broken Unicode, line and paragraph separators
NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")


def refuse(field, reason, example):
    """Stop with one line: field, value, reason, example."""
    sys.exit(f"{field}: {ANSWERS.get(field)!r} {reason}. Example: {example}")


def check_text(field):
    """Refuse what would break out of a TOML string, a line or a template."""
    for letter in ANSWERS[field]:
        if letter in '"\\{}' or unicodedata.category(letter) in NOT_TEXT:
            refuse(field, f"contains {letter!r}", EXAMPLES[field])


def check_labels():
    """Refuse empty names between commas and names that differ only in case."""
    labels = [unicodedata.normalize("NFC", label.strip()) for label in ANSWERS["labels"].split(",")]
    if labels == [""]:
        if ANSWERS["source"] == "openimages":
            refuse("labels", "names no class, and source=openimages downloads by class",
                   EXAMPLES["labels"])
        return
    if "" in labels:
        refuse("labels", "has an empty name", EXAMPLES["labels"])
    seen = {}
    for label in labels:
        if label.casefold() in seen:
            refuse("labels", f"names {label!r} twice", EXAMPLES["labels"])
        seen[label.casefold()] = label


for field, choices in CHOICES.items():
    if ANSWERS[field] not in choices:
        refuse(field, f"is none of {', '.join(choices)}", choices[0])
for field in EXAMPLES:
    check_text(field)
for field in ("project_name", "author"):
    if not ANSWERS[field].strip():
        refuse(field, "is empty", EXAMPLES[field])
if len(ANSWERS["project_slug"]) > 64 or not SLUG.fullmatch(ANSWERS["project_slug"]):
    refuse("project_slug", "is not a folder name of at most 64 a-z, 0-9, - and _", "fruit-detector")
check_labels()
