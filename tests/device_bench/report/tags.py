"""What a page is made of, for tests that look at its text."""

from html.parser import HTMLParser


class Tags(HTMLParser):
    """The tags of a page, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.references += [str(value) for name, value in attrs if name in ("href", "src", "xlink:href", "action")]
