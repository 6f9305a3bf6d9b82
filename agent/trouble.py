"""Something that goes on failing while it is tried again: said when it begins or changes, not at every try."""


class Trouble:
    """`text` is the present one; "" while all is well."""

    def __init__(self) -> None:
        self.text = ""

    def is_news(self, error: Exception) -> bool:
        """It failed again: whether that is worth a line."""
        news = str(error) != self.text
        self.text = str(error)
        return news

    def is_over(self) -> bool:
        """It went well: whether it had not before."""
        over = bool(self.text)
        self.text = ""
        return over
