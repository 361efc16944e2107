"""Protobuf text format, as much of it as a label map can contain, with the line of every token."""

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.core.files import write_text
from scripts.core.text import DetectorError

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\f\v]+|#[^\n]*)|(?P<newline>\n)"
    r"|(?P<string>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<word>[-+]?[A-Za-z0-9_.][\w.+-]*)|(?P<mark>[{}<>\[\]:,;/])"
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSE = {"{": "}", "<": ">"}


class TextFormatError(ValueError):
    """The text is not protobuf text format; `line` says where."""

    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Token:
    """A `string` (text without quotes, escapes resolved), `word`, or `mark`, or `end`."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Field:
    """`name: value`. `value` is the text of a scalar, or a tuple of Fields; `kind` is string, word
    or message."""

    name: str
    kind: str
    value: "str | tuple[Field, ...]"
    line: int


def _unescape(body: str, line: int) -> str:
    # Octal and hex escapes are bytes of UTF-8: protobuf's own writer spells every accent so.
    data, position = b"", 0
    for match in _ESCAPE.finditer(body):
        data += body[position : match.start()].encode()
        code, position = match[1], match.end()
        if code[0] in "01234567":
            data += bytes([int(code, 8) & 255])
        elif code[0] in "xX" and len(code) > 1:
            data += bytes([int(code[1:], 16)])
        elif code[0] in "uU" and len(code) > 1:
            data += chr(int(code[1:], 16)).encode()
        else:
            data += _SHORT.get(code, code).encode()
    try:
        return (data + body[position:].encode()).decode()
    except UnicodeDecodeError:
        raise TextFormatError(f"escapes in '{body}' are not UTF-8", line) from None


def tokenize(text: str) -> list[Token]:
    """All tokens, with an `end` token last. TextFormatError for anything that is none."""
    tokens, position, line = [], 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise TextFormatError(f"unexpected {text[position : position + 10].splitlines()[0]!r}", line)
        position, kind = match.end(), match.lastgroup
        if kind == "newline":
            line += 1
        elif kind == "string":
            tokens.append(Token(kind, _unescape(match[kind][1:-1], line), line))
        elif kind != "space":
            if match[kind] == "/":
                raise TextFormatError("'/': comments begin with #", line)
            tokens.append(Token(kind, match[kind], line))
    return [*tokens, Token("end", "the end of the file", line)]


class Parser:
    """Recursive descent over the tokens; `message("end")` reads the whole file."""

    def __init__(self, text: str):
        self.tokens, self.position = tokenize(text), 0

    def _next(self) -> Token:
        token = self.tokens[self.position]
        self.position = min(self.position + 1, len(self.tokens) - 1)
        return token

    def _accept(self, *texts: str) -> Token | None:
        token = self.tokens[self.position]
        return self._next() if token.kind == "mark" and token.text in texts else None

    def message(self, end: str) -> tuple[Field, ...]:
        """Fields up to the closing mark, or up to the end of the file for "end"."""
        fields = []
        while True:
            token = self._next()
            if token.kind == "end" and end != "end":
                raise TextFormatError(f"'{end}' is missing", token.line)
            if token.kind == "end" or (token.kind == "mark" and token.text == end):
                return tuple(fields)
            if token.kind != "word":
                raise TextFormatError(f"'{token.text}' where a field name should be", token.line)
            fields += self._values(token)
            self._accept(",", ";")

    def _values(self, name: Token) -> list[Field]:
        colon = self._accept(":")
        if not self._accept("["):
            return [self._value(name, bool(colon))]
        fields = []
        while not self._accept("]"):
            fields.append(self._value(name, True))
            self._accept(",")
        return fields

    def _value(self, name: Token, colon: bool) -> Field:
        opened = self._accept("{", "<")
        if opened:
            return Field(name.text, "message", self.message(_CLOSE[opened.text]), name.line)
        token = self._next()
        if token.kind not in ("string", "word") or not colon:
            wanted = "a value" if colon else "':' or '{'"
            raise TextFormatError(f"'{token.text}' after '{name.text}', where {wanted} should be", token.line)
        text = token.text
        while token.kind == "string" and self.tokens[self.position].kind == "string":  # 'a' 'b' is one string
            text += self._next().text
        return Field(name.text, token.kind, text, name.line)


def parse_text_format(text: str) -> tuple[Field, ...]:
    """The fields of a message in protobuf text format. TextFormatError with the line when it is
    none."""
    return Parser(text).message("end")


# `annotations/label_map.pbtxt`: which number stands for which class, from 1; numbers never change
# hands.

LABEL_MAP = "annotations/label_map.pbtxt"
DRAWN = '# Classes of the drawn images (source.kind = "demo"). Another source numbers its classes anew.\n'
"""First line of a map that holds nothing of the user's; what does not begin with it is never
renumbered."""
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _number(field: Field) -> int:
    try:
        return int(field.value, 0) if field.kind == "word" else 0
    except ValueError:
        return 0


def _item(item: Field) -> tuple[int, str]:
    """Id and name of one item, each given exactly once."""
    found = {}
    for key in ("id", "name"):
        fields = [field for field in item.value if field.name == key]
        if len(fields) != 1:
            line = fields[1].line if fields else item.line
            raise TextFormatError(f"item has {len(fields) or 'no'} '{key}', it needs exactly one", line)
        found[key] = fields[0]
    number, name = _number(found["id"]), found["name"]
    if number < 1:
        raise TextFormatError(
            f"id '{found['id'].value}' is not a number from 1 (0 is the background)", found["id"].line
        )
    if name.kind != "string" or not name.value:
        raise TextFormatError("name is not a text in quotes", name.line)
    return number, name.value


def parse_label_map(text: str) -> dict[int, str]:
    """Names by id, in the order of ids. TextFormatError with the line for everything that
    TensorFlow would garble."""
    ids, names = {}, {}
    for item in parse_text_format(text.removeprefix("\ufeff")):
        if item.name != "item":
            continue
        if item.kind != "message":
            raise TextFormatError("'item' is not followed by '{'", item.line)
        number, name = _item(item)
        if number in ids:
            raise TextFormatError(f"id {number} is already that of '{ids[number]}'", item.line)
        if name in names:
            raise TextFormatError(f"name '{name}' already has id {names[name]}", item.line)
        ids[number], names[name] = name, number
    return dict(sorted(ids.items()))


def read_label_map(path: Path) -> dict[int, str]:
    """`parse_label_map` of a file. DetectorError when it is missing, broken or empty."""
    where = f"{path.parent.name}/{path.name}"
    try:
        ids = parse_label_map(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise DetectorError(f"label map is missing: {where}: run `invoke labelmap`") from None
    except UnicodeDecodeError:
        raise DetectorError(f"label map is not UTF-8: {where}: save it as UTF-8") from None
    except TextFormatError as error:
        raise DetectorError(
            f"{error}: {where}:{error.line}: correct the line, or delete the file and run `invoke labelmap`"
        ) from None
    if not ids:
        raise DetectorError(f"label map has no item: {where}: delete it, then run `invoke labelmap`")
    return ids


def class_numbers(path: Path) -> dict[str, int]:
    """Numbers by name, from 0 as in `labels.txt`; none when the map is missing or broken. For
    colors only."""
    try:
        return {name: number - 1 for number, name in read_label_map(path).items()}
    except DetectorError:
        return {}


def write_label_map(path: Path, ids: dict[int, str], heading: str = "") -> None:
    """Write names by id. `display_name` is always there: readers of TensorFlow look a class up in
    both."""
    items = []
    for number, name in sorted(ids.items()):
        quoted = "".join(_ESCAPES.get(letter, letter) for letter in name)
        items.append(f"item {{\n  id: {number}\n  name: '{quoted}'\n  display_name: '{quoted}'\n}}\n")
    write_text(path, heading + "\n".join(items))


def number_classes(ids: dict[int, str], wanted: list[str]) -> dict[int, str]:
    """Return `ids` with the names of `wanted` that it lacks appended, numbered after the highest id."""
    start, known = max(ids, default=0) + 1, set(ids.values())
    fresh = [name for name in wanted if name not in known]
    return {**ids, **{start + index: name for index, name in enumerate(fresh)}}
