from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.report.page import cards, escaped, figure, page, section, table


class Reader(HTMLParser):
    """Collects the elements, attributes and text of a page."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@given(st.text(st.characters() | st.sampled_from("<>&\"'/\0\x1b`=\ud800")))
def test_escaped_text_is_text_again_and_never_markup(text):
    markup = escaped(text)
    assert not set(markup) & set("<>\"'\0\x1b")
    reader = Reader(f"<p>{markup}</p>")
    assert reader.tags == ["p"]
    expected = text.replace("\r\n", "\n").encode(errors="replace").decode()
    visible = "".join(chr(0x2400 + ord(c)) if c < " " and c not in "\n\t" else c for c in expected)
    assert reader.text == visible.replace("\x7f", "\u2421")


def test_white_space_is_kept():
    assert escaped("  a\n\tb  ") == "  a\n\tb  "


@pytest.mark.parametrize("build", [
    lambda text: cards([(text, text, text)]),
    lambda text: section(text, text, "<p></p>"),
    lambda text: figure("<svg></svg>", text),
    lambda text: table([text, text], [[text, text]]),
    lambda text: page(text),
])  # fmt: skip
def test_every_part_escapes_its_text(build):
    markup = build("</title></style><script>alert(1)</script><img src=x onerror=alert(1)>")
    reader = Reader(markup)
    assert not {"script", "img"} & set(reader.tags)
    assert "<script>alert(1)" in reader.text


def test_a_page_forbids_everything_but_its_own_style():
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in Reader(page("t")).attributes


def test_a_section_without_parts_is_left_out():
    assert section("title", "hint", "", "") == ""


def test_numbers_stand_to_the_right():
    markup = table(("name", "count"), [("a", 1)])
    assert '<td>a</td><td class="number">1</td>' in markup
