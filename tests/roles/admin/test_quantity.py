import pytest

from agent.errors import UsageError
from roles.admin import quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("0", 0),
    ],
)
def test_what_a_person_means_by_a_duration(text, seconds):
    assert quantity.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "1x", "-1", "1 m", "1m ", "1,5h", "nan", "inf", "1e3", "９", "1" * 21, "1h 30m", "h1"]
)
def test_what_is_no_duration_is_wrong_usage(text):
    with pytest.raises(UsageError, match="is not a duration like"):
        quantity.seconds(text)
