"""The catalogue of messages as docs/protocol.md shows it: `python -m tests.docs.catalogue` writes it there anew."""

import dataclasses
import re
from pathlib import Path

from agent import codec, messages

PROTOCOL = Path(__file__).resolve().parent.parent.parent / "docs" / "protocol.md"
BEGIN, END = "<!-- catalogue: written by tests/docs/catalogue.py -->\n", "<!-- end of catalogue -->"


def text() -> str:
    """A line per message: kind, wire name, fields with their types and defaults, what it says."""
    replies = {reply: request for request, reply in codec.REPLY_OF.items()}
    rows = ["| message | kind | fields | meaning |", "|---|---|---|---|"]
    for name, kind in codec.BY_NAME.items():
        if kind in codec.REPLY_OF:
            sort = f"request → `{codec.NAME_OF[codec.REPLY_OF[kind]]}`"
        elif kind in replies:
            sort = "reply"
        else:
            sort = "error" if kind is messages.Error else "notice"
        rows.append(f"| `{name}` | {sort} | {_fields(kind)} | {_meaning(kind)} |")
    return "\n".join(rows) + "\n"


def _fields(kind: type) -> str:
    return "<br>".join(_field(field) for field in dataclasses.fields(kind)) or "–"


def _field(field: dataclasses.Field) -> str:
    name = getattr(field.type, "__name__", str(field.type))
    if field.default is not dataclasses.MISSING:
        return f"`{field.name}` {name} = `{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.name}` {name} = `{field.default_factory()!r}`"
    return f"`{field.name}` {name}"


def _meaning(kind: type) -> str:
    doc = kind.__doc__ or ""
    if doc.startswith(f"{kind.__name__}("):  # what dataclass makes where nothing is written
        return ""
    return re.sub(r"\s+", " ", doc).strip().replace("|", "\\|").replace("<", "&lt;")


def replace(document: str) -> str:
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{text()}{END}{after}"


if __name__ == "__main__":
    PROTOCOL.write_text(replace(PROTOCOL.read_text()))
