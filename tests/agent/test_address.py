import pytest

from agent.address import parse
from agent.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.168.1.10", ("192.168.1.10", 8889)),
        ("192.168.1.10:1", ("192.168.1.10", 1)),
        (":8000", ("", 8000)),
        ("db.example:0", ("db.example", 0)),
        ("[::1]:7", ("::1", 7)),
        ("::1", ("::1", 8889)),
        ("[::1]", ("::1", 8889)),
    ],
)
def test_host_and_port(text, expected):
    assert parse(text, 8889) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h:",
        "h:x",
        "h:70000",
        "h:-1",
        "a b",
        "h:1:",
        "[::1",
        "[::1]x",
        "http://h",
        "u@h",
        "h:٣",
        "h:000001",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(UsageError):
        parse(text, 8889)


def test_an_address_reads_back():
    for text in ("h:1", "[::1]:2"):
        assert str(parse(text, 9)) == text
