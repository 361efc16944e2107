"""ATTRIBUTION.csv: who made each picture, under which licence, and the page that says so."""

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path

from scripts.pictures.openimages.catalogue import Catalogue
from scripts.pictures.openimages.layout import ATTRIBUTION_FILE, FOLDER
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import write_text
from scripts.pipeline.transfer import AbsentError

COLUMNS = ("ImageID", "Split", "Author", "AuthorProfileURL", "Title", "License", "OriginalLandingURL")


def write_attribution(root: Path, catalogue: Catalogue, stored: Mapping[str, Collection[str]],
                      spare: Mapping[str, Collection[str]]) -> int:
    """Write a line for each stored picture, split -> ids; return how many of them have no author or no licence.

    `spare` are pictures that may be wanted next: the list of 600 MB is read once for them as well.
    A server without the list gives lines with empty fields.
    """
    rows, unknown = [], 0
    for split, image_ids in stored.items():
        known = _rows_of(catalogue, split, image_ids, spare.get(split, ())) if image_ids else {}
        for image_id in image_ids:
            row = known.get(image_id, {})
            unknown += not (row.get("Author") and row.get("License"))
            rows.append((image_id, split, *((row.get(column) or "") for column in COLUMNS[2:])))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows))
    write_text(root / FOLDER / ATTRIBUTION_FILE, out.getvalue())
    return unknown


def _rows_of(catalogue: Catalogue, split: str, image_ids: Collection[str], spare: Collection[str]) -> dict[str, dict]:
    part = catalogue.images(split)
    # Pictures without a row were looked for in vain once; that is remembered too.
    if not part.has(image_ids):
        try:
            part.ensure({*image_ids, *spare})
        except DetectorError as error:
            if isinstance(error.__cause__, AbsentError):
                return {}
            raise
    wanted = set(image_ids)
    with part.path.open(encoding="utf-8", errors="replace", newline="") as file:
        return {row["ImageID"]: row for row in csv.DictReader(file) if row["ImageID"] in wanted}
