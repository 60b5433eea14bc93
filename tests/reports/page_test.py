# SPDX-License-Identifier: Apache-2.0
"""A page fetches nothing and shows names as they are."""

from html.parser import HTMLParser

from perceiver_jax.reports import page

FETCHING = ("src", "href", "srcset", "data", "action", "poster", "background", "style")


class Reader(HTMLParser):
    """Tags, what they would fetch, and text."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.fetched, self.texts, self.policy = [], [], [], None
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.fetched += [values[name] for name in FETCHING if name in values]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]

    def handle_data(self, data):
        self.texts.append(data)


def assert_whole(content):
    """Nothing but pictures in the page itself, and a policy that forbids the rest."""
    found = Reader(content)
    assert {"script", "link", "iframe", "object"} & set(found.tags) == set()
    assert all(address.startswith("data:image/png;base64,") for address in found.fetched)
    assert found.policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    style = content.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    return found


def test_everything_is_escaped():
    nasty = '<script src="http://x/y.js"></script>&"고양이'
    parts = [
        page.table([nasty], [[nasty]]),
        page.paragraph(nasty),
        page.passage(nasty),
        page.listing(nasty, folded=nasty),
        page.cards([(page.picture(b"png", nasty), nasty)]),
    ]
    found = assert_whole(page.page(nasty, [(nasty, part) for part in parts]))
    assert "".join(found.texts).count(nasty) == 14 and found.fetched == ["data:image/png;base64,cG5n"]


def test_sections_without_content_are_left_out():
    assert page.table(["a"], []) == page.cards([]) == ""
    assert "Mistakes" not in page.page("run", [("Mistakes", page.cards([])), ("Numbers", page.paragraph("1"))])
