import pytest

from agent.outcome import Outcome, exit_code


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ("", 0),
        ("ok already", 0),
        ("ok refused", 4),
        ("refused unknown", 5),
        ("ok failed unknown refused", 1),
        ("ok unknown", 5),
        ("ok hatched", 5),
    ],
)
def test_the_worst_that_is_certain_decides(results, code):
    assert exit_code(Outcome("大区1.1.2.3.4.game1", result) for result in results.split()) == code
