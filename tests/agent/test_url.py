import pytest

from agent.errors import ConfigError
from agent.url import parse_url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://x",
        "redis://",
        "redis://:pw@",
        "redis://h:99999",
        "redis://h:x",
        "redis://h/1",
        "redis://h?db=1",
        "redis://h?ca=/x",
        "unix:///x",
    ],
)
def test_urls_that_are_none(url):
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "pw" not in str(caught.value)


def test_urls_that_are_some():
    assert parse_url("redis://h").place == "redis://h:6379"
    place, tls, options = parse_url("redis://u:p%40w@h:1/0")
    assert place == "redis://h:1" and options == {"host": "h", "port": 1, "username": "u", "password": "p@w"}
    assert not tls
    place, tls, options = parse_url("rediss://[::1]:7?ca=/ca.pem")
    assert place == "rediss://[::1]:7" and tls and options["ssl_ca_certs"] == "/ca.pem"
