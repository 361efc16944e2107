"""The label map: which number stands for which class, from 1; 0 is the background.

Its file is `StringIntLabelMap` of the TensorFlow Object Detection API in the text format of
protobuf, as in `item {id: 1 name: 'apple'}`. A number never passes to another class: detectors and
apps know classes by their numbers only.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from scripts.core.files import write_text
from scripts.core.text import DetectorError
from scripts.data.dataset import LabelError


def _message_class():
    """Build the class of the message; other fields of the original, such as keypoints, are skipped.

    Source: object_detection/protos/string_int_label_map.proto. The numbers of the fields differ,
    because text is written in their order; only the binary format, which nobody uses, has them.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="label_map.proto", syntax="proto2")
    item = file.message_type.add(name="Item")
    kinds = {"id": field.TYPE_INT32, "name": field.TYPE_STRING, "display_name": field.TYPE_STRING}
    for number, (name, kind) in enumerate(kinds.items(), start=1):
        item.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    file.message_type.add(name="LabelMap").field.add(
        name="item", number=1, type=field.TYPE_MESSAGE, type_name=".Item",
        label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("LabelMap"))


_LabelMap = _message_class()


def parse_label_map(text: str, display: bool = False) -> dict[int, str]:
    """Parse a label map.

    Args:
        text: the content of the file.
        display: return `display_name` where an item has one. The maps of COCO and Open Images have
            it beside names such as `/m/01g317`.

    Returns:
        Names by id, in the order of ids.

    Raises:
        LabelError: with the line, for everything that TensorFlow would garble or refuse.
    """
    text = text.removeprefix("\ufeff")
    try:
        items = text_format.Parse(text, _LabelMap(), allow_unknown_field=True).item
    except text_format.ParseError as error:
        raise _syntax_error(text, error) from None
    ids, names = {}, {}
    for index, item in enumerate(items):
        fault, field = _fault_of(item, ids, names)
        if fault:
            lines = _field_lines(text)[index]
            raise LabelError(fault, lines.get(field, lines["item"]))
        ids[item.id], names[item.name] = item.name, item.id
    if display:
        ids |= {item.id: item.display_name for item in items if item.display_name}
    return dict(sorted(ids.items()))


def _fault_of(item, ids: dict[int, str], names: dict[str, int]) -> tuple[str, str]:
    """Return what is wrong with an item ("" for nothing), and the field that it is about."""
    # In the order in which a person reads an item.
    for field in ("id", "name"):
        if not item.HasField(field):
            return f"item has no '{field}'", "item"
    if item.id < 1:
        return f"id {item.id} is not a number from 1 (0 is the background)", "id"
    if not item.name:
        return "name is empty", "name"
    if item.id in ids:
        return f"id {item.id} is already that of '{ids[item.id]}'", "id"
    if item.name in names:
        return f"name '{item.name}' already has id {names[item.name]}", "name"
    return "", ""


def _syntax_error(text: str, error: text_format.ParseError) -> LabelError:
    """Return the error of the library without the position and the line that it repeats."""
    line = text.split("\n")[error.GetLine() - 1]
    reason = str(error).partition(" : ")[2].removeprefix(f"'{line}': ").rstrip(".")
    hint = "; comments begin with #" if line.lstrip().startswith("/") else ""
    return LabelError(" ".join(reason.split()) + hint, error.GetLine())


def _field_lines(text: str) -> list[dict[str, int]]:
    """Return the lines where each item, its id and its name begin; a message does not keep them."""
    tokenizer, found, depth, outer = text_format.Tokenizer(text.split("\n")), [], 0, ""
    while not tokenizer.AtEnd():
        token, line = tokenizer.token, tokenizer.ParseError("").GetLine()
        if token in ("{", "<"):
            if depth == 0 and outer == "item":
                found.append({"item": line})
            depth += 1
        elif token in ("}", ">"):
            depth -= 1
        elif depth == 0 and token.isidentifier():
            outer = token
        elif depth == 1 and outer == "item" and token.isidentifier():
            found[-1].setdefault(token, line)
        tokenizer.NextToken()
    return found


def read_label_map(path: Path, display: bool = False) -> dict[int, str]:
    """Read a label map as `parse_label_map` does.

    Raises:
        DetectorError: The file is missing, broken or empty.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        ids = parse_label_map(path.read_bytes().decode("utf-8"), display)
    except FileNotFoundError:
        raise DetectorError(f"label map is missing: {where}: run `invoke labelmap`") from None
    except UnicodeDecodeError:
        raise DetectorError(f"label map is not UTF-8: {where}: save it as UTF-8") from None
    except LabelError as error:
        raise DetectorError(f"{error}: {where}:{error.line}: correct the line, or delete the file "
                            "and run `invoke labelmap`") from None
    if not ids:
        raise DetectorError(f"label map has no item: {where}: delete it, then run "
                            "`invoke labelmap`")
    return ids


def class_numbers(path: Path) -> dict[str, int]:
    """Return numbers by name, from 0 as in `labels.txt`, to choose colors.

    There are none when the map is missing or broken.
    """
    try:
        return {name: number - 1 for number, name in read_label_map(path).items()}
    except DetectorError:
        return {}


def number_classes(ids: dict[int, str], wanted: list[str]) -> dict[int, str]:
    """Return `ids` with the names of `wanted` that it lacks, numbered after the highest id."""
    # Ids never change hands: records and exported models hold them.
    known = set(ids.values())
    fresh = [name for name in wanted if name not in known]
    return {**ids, **dict(enumerate(fresh, start=max(ids, default=0) + 1))}


def write_label_map(path: Path, ids: dict[int, str]) -> None:
    """Write names by id.

    `display_name` is always there: readers of TensorFlow look a class up in both.
    """
    # One item after the other, so that each has a blank line between.
    items = []
    for number, name in sorted(ids.items()):
        message = _LabelMap()
        message.item.add(id=number, name=name, display_name=name)
        items.append(text_format.MessageToString(message, as_utf8=True))
    write_text(path, "\n".join(items))
