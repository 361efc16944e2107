"""Writing the edits of a picture: each file whole or as it was, in an order that a second run can go on from."""

from scripts.pictures.decode import inspect_bytes
from scripts.pictures.exif import without_turn
from scripts.pictures.fixing.edit import Edit, PicturePlan
from scripts.pictures.fixing.label_file import edited_label
from scripts.pictures.fixing.plan import stored_as
from scripts.pipeline.files import write_bytes


def apply(plan: PicturePlan, exif: str) -> list[Edit]:
    """Write the edits of one picture; those that were done. `exif` is `source.exif`.

    The label file comes first: a picture that was left turned or in another format is then still found the next time.
    """
    path = plan.stored.path
    picture = _picture_bytes(plan, exif)
    if plan.picture and picture is None:
        # Its tag is where we cannot change it; the finding stays, and so does the size.
        plan.edits = [edit for edit in plan.edits if edit.code not in ("E007", "E022")]
        plan.filename = None
    label_path = path.with_suffix(".xml")
    if plan.stored.label and (plan.boxes or plan.size or plan.filename):
        data = edited_label(label_path.read_bytes(), plan.boxes, plan.size, plan.filename)
        write_bytes(label_path, data)
    if picture is not None:
        target = stored_as(plan.stored) if plan.picture == "encode" else path
        write_bytes(target, picture)
        if target != path:
            path.unlink()
    return plan.edits


def _picture_bytes(plan: PicturePlan, exif: str) -> bytes | None:
    """The new bytes of the picture, None when it stays."""
    if not plan.picture:
        return None
    data = plan.stored.path.read_bytes()
    if plan.picture == "untag":
        return without_turn(data)
    return inspect_bytes(data, "displayed" if exif == "displayed" else "stored")[1]
