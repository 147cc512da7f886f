"""What a self-contained page may be made of, and texts that would like to be more than text."""

from html.parser import HTMLParser

PAYLOADS = [
    "<script>alert(1)</script>",
    "</pre></style></title><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "</svg><iframe srcdoc='<script>alert(1)</script>'>",
    "&lt;script&gt;",
    "<!--><script>alert(1)</script>",
    "javascript:alert(1)",
]
HARMLESS = set(
    "html head meta title style body main h1 h2 h3 p div b span small pre mark section details summary "
    "table thead tbody tr th td figure figcaption".split()
)
DRAWN = {"svg", "g", "defs", "path", "use", "text", "tspan", "clippath", "rect", "circle", "line", "polyline"}


class Tags(HTMLParser):
    """Elements and attribute names of a page."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.names, self.text = set(), set(), ""
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data
