from agent.errors import StoreDown
from agent.trouble import Trouble


def test_a_trouble_is_said_when_it_begins_when_it_changes_and_when_it_is_over():
    trouble = Trouble()
    assert not trouble.is_over()
    assert trouble.is_news(StoreDown("no answer")) and not trouble.is_news(StoreDown("no answer"))
    assert trouble.is_news(StoreDown("refused")) and trouble.text == "refused"
    assert trouble.is_over() and not trouble.is_over() and trouble.text == ""
    assert trouble.is_news(StoreDown("refused"))
