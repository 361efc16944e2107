"""Protobuf text format, as much of it as a label map can contain, with the line of every token."""

import re
from dataclasses import dataclass

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
    """`name: value`. `value` is the text of a scalar, or a tuple of Fields; `kind` is string, word or message."""

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
    """The fields of a message in protobuf text format. TextFormatError with the line when it is none."""
    return Parser(text).message("end")
