"""Text for the page, escaped in one place: what is not `Html` already is escaped when it enters a
tag.

Class names and file names are the user's, and may hold quotes, tags and anything else.
"""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

EMPTY_TAGS = ("img", "input", "br", "col")


class Html(str):
    """A piece of page that is escaped already."""


def escaped(value: Any) -> Html:
    """`value` as text of a page, or itself when it is a piece of page."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def joined(parts: Iterable[Any]) -> Html:
    """Pieces and texts one after the other; None is left out."""
    return Html("".join(escaped(part) for part in parts if part is not None))


def tag(name: str, *parts: Any, **attributes: Any) -> Html:
    """`<name ...>parts</name>`. `class_` gives `class`, other underscores hyphens; True is a bare
    attribute, None none.

    Texts among `parts` and values of attributes are escaped here.
    """
    said = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            said += f" {key}" if value is True else f' {key}="{escaped(value)}"'
    return Html(f"<{name}{said}>" if name in EMPTY_TAGS else f"<{name}{said}>{joined(parts)}</{name}>")


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "", numbers_from: int = 1) -> Html:
    """A table that scrolls sideways in its own frame on a phone, its caption above; columns from
    `numbers_from` are numbers, the first one names the row.
    """
    kinds = [{"class_": "number" if index >= numbers_from else None} for index in range(len(header))]
    head = tag("tr", *(tag("th", cell, **kind) for cell, kind in zip(header, kinds, strict=True)))
    body = [tag("tr", row_name(first), *(tag("td", cell, **kind) for cell, kind in zip(row, kinds[1:], strict=True)))
            for first, *row in rows]
    shown = tag("div", tag("table", tag("thead", head), tag("tbody", *body), aria_label=caption or None), class_="wide")
    return joined([tag("p", caption, class_="remark caption") if caption else None, shown])


def row_name(name: Any, **attributes: Any) -> Html:
    """The first cell of a row; of a long name the page shows three lines, and all of it where the
    pointer rests."""
    return tag("th", tag("span", name, class_="name", title=name), scope="row", **attributes)


def commands(text: str) -> Html:
    """A sentence in which `what stands between backticks` is shown as something to type."""
    return joined(tag("code", part) if index % 2 else part for index, part in enumerate(text.split("`")))


def paragraph(text: str, class_: str | None = None) -> Html:
    """`commands(text)` as a paragraph."""
    return tag("p", commands(text), class_=class_)


def section(name: str, title: str, *parts: Any) -> Html:
    """A part of the page with a heading, reached by `#name`."""
    return tag("section", tag("h2", title), *parts, id=name)


def json_island(value: Any) -> Html:
    """Data for the page's script as JSON: `<` is written as an escape, so that no text in it can
    end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
