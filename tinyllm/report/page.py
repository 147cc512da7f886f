"""Parts of a self-contained web page: escaped text, tables, cards, figures, and the style sheet they share.

Everything that comes from a run passes through `escaped` before it is a part of the page: markup characters become
entities, control characters become visible signs. Behind that stands the page's own Content-Security-Policy, which
allows its inline style and nothing else: no script, no image, no font, no address is ever loaded.
"""

import html
from collections.abc import Sequence

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f7f9; --line: #e3e6ea; --ink: #1b1f24; --muted: #5c6570;
  --grid: #d5dae0; --train: #2563b8; --validation: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1c2026; --line: #2c323a; --ink: #e6e9ed;
  --muted: #9aa4b0; --grid: #3a424c; --train: #6ea8f5; --validation: #fb8f54; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1060px; margin: 0 auto; padding: 44px 28px 64px; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.015em; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; letter-spacing: -0.01em; margin: 52px 0 6px; }
p { margin: 0 0 14px; max-width: 46em; }
.about, .hint, .note { color: var(--muted); }
.about { max-width: none; }
.hint { font-size: 0.94rem; margin-bottom: 16px; }
.note { font-size: 0.88rem; }
.cards { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px; margin: 28px 0 0; }
@media (min-width: 900px) { .cards:has(> :nth-child(7)), .cards:has(> :nth-child(4):last-child) {
  grid-template-columns: repeat(4, minmax(0, 1fr)); } }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px 13px; }
.card b { display: block; font-size: 1.62rem; line-height: 1.25; font-weight: 620; letter-spacing: -0.015em;
  font-variant-numeric: tabular-nums; }
.card span { display: block; color: var(--muted); font-size: 0.86rem; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; font-family: inherit; }
figcaption { color: var(--muted); font-size: 0.9rem; line-height: 1.45; margin-top: 6px; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 34px 30px; margin-top: 12px; }
.row.two { grid-template-columns: repeat(auto-fill, minmax(min(400px, 100%), 1fr)); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
th { color: var(--muted); font-weight: 500; text-align: left; white-space: nowrap; }
th, td { padding: 7px 22px 7px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
th:last-child, td:last-child { padding-right: 0; }
td:first-child, td:last-child { overflow-wrap: break-word; }
td.bars { min-width: 150px; width: 42%; white-space: nowrap; }
.chart { font-size: 12px; } .chart text { fill: var(--ink); } .chart .muted { fill: var(--muted); }
.chart .grid { stroke: var(--grid); } .chart .level { stroke: var(--muted); } .chart .s0 { stroke: var(--train); }
.chart .s1 { stroke: var(--validation); } .chart .s2 { stroke: var(--muted); } .f0 { fill: var(--train); }
.f1 { fill: var(--validation); } .f2 { fill: var(--muted); }
.chart .rim { stroke: var(--paper); stroke-width: 4px; paint-order: stroke; }
.bar .back { fill: var(--card); } .bar .grey { fill: var(--muted); } .bar .f0, .bar .f1 { fill-opacity: 0.8; }
.bar .whisker { stroke: var(--ink); stroke-width: 1.2; }
svg.bar { display: inline-block; vertical-align: middle; width: calc(100% - 3.6em); height: 12px; margin-right: 0.7em; }
.story { border-left: 3px solid var(--line); padding-left: 14px; max-width: none; margin: 22px 0 8px; }
details { margin-top: 14px; }
summary { cursor: pointer; color: var(--muted); }
.settings { columns: 2; column-gap: 44px; }
.settings section { padding-bottom: 18px; }
.settings tr { break-inside: avoid; }
.settings h3 { font-size: 0.95rem; margin: 0 0 2px; break-after: avoid; }
.settings .scroll { overflow: visible; }
.settings td { padding: 4px 12px 4px 0; font-size: 0.88rem; }
.settings td:last-child { text-align: right; padding-right: 0; }
.settings td:last-child { overflow-wrap: anywhere; }
.settings td:first-child { white-space: nowrap; }
.sample { display: grid; grid-template-columns: 132px minmax(0, 1fr); gap: 20px; padding: 14px 0;
  border-top: 1px solid var(--line); }
.sample h3 { margin: 0; font-size: 0.93rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.sample h3 small { display: block; color: var(--muted); font-weight: 400; font-size: 0.84rem; }
.sample pre { margin: 0; font: 0.85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; tab-size: 4; }
.sample mark { background: none; color: var(--train); font-weight: 600; }
.remark { border-left: 3px solid var(--validation); padding: 1px 0 1px 14px; margin: 0 0 12px; max-width: 52em; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px 34px; padding: 16px 0;
  border-top: 1px solid var(--line); }
.pair .asked { grid-column: 1 / -1; color: var(--muted); }
.pair h3 { margin: 0 0 2px; font-size: 0.86rem; font-weight: 600; }
.pair h3 small { color: var(--muted); font-weight: 400; font-size: 0.84rem; margin-left: 10px; }
.pair pre { margin: 0; font-family: inherit; font-size: 0.94rem; line-height: 1.5; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate; tab-size: 4; }
.tokens { display: flex; flex-wrap: wrap; gap: 6px 3px; align-items: flex-start; }
.tokens span { border-radius: 5px; padding: 1px 5px 2px; text-align: center; }
.tokens code { display: block; font: 0.92rem/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.tokens small { display: block; color: var(--muted); font-size: 0.68rem; font-variant-numeric: tabular-nums; }
.tokens i { flex-basis: 100%; height: 0; }
.g0 { background: #4c8df52e; } .g1 { background: #e0862e33; } .g2 { background: #3fa66a30; } .g3 { background: #b05fc92e; }
.g4 { background: #c9a62233; }
@media (max-width: 640px) { main { padding: 26px 16px 40px; } .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .wide > svg { min-width: 620px; } .sample { grid-template-columns: 1fr; gap: 4px; }
  .settings { columns: 1; } .pair { grid-template-columns: 1fr; } }
@media print { :root { --paper: #fff; --card: #fff; --line: #ccc; --ink: #000; --muted: #444; --grid: #ccc;
  --train: #2563b8; --validation: #c2410c; } main { max-width: none; padding: 0; } body { font-size: 11pt; }
  figure, .card, .sample, .pair, tr { break-inside: avoid; } h2 { break-after: avoid; margin-top: 30px; } }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def escaped(value: object) -> str:
    """Any value as text that is safe inside an element or a quoted attribute."""
    text = str(value).replace("\r\n", "\n").translate(_CONTROLS)
    return html.escape(text.encode("utf-8", errors="replace").decode(), quote=True)


def page(title: str, *parts: str) -> str:
    """A whole page around `parts`, which must already be markup; empty parts are left out."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, hint: str, *parts: str) -> str:
    """A heading, a sentence of what to look for, and parts in markup; "" if there are no parts."""
    body = "\n".join(part for part in parts if part)
    return f'<h2>{escaped(title)}</h2>\n<p class="hint">{escaped(hint)}</p>\n{body}' if body else ""


def cards(facts: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: (number, what it is, a remark or "") each on a card."""
    each = "\n".join(
        f'<div class="card"><b>{escaped(number)}</b>{escaped(name)}<span>{escaped(remark)}</span></div>'
        for number, name, remark in facts
    )
    return f'<div class="cards">\n{each}\n</div>'


def figure(svg: str, caption: str = "", *, wide: bool = False) -> str:
    """A drawing (markup) and its caption (text); a wide one is moved sideways on a phone rather than shrunk."""
    under = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
    kind = "scroll wide" if wide else "scroll"
    return f'<figure><div class="{kind}">{svg}</div>{under}</figure>'


def numbers_below(drawn: str, numbers: str) -> str:
    """A drawing, and its numbers folded away under it (both are markup)."""
    return drawn + (f"<details><summary>The numbers</summary>{numbers}</details>" if numbers else "")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, n_text: int = 1) -> str:
    """A table whose first `n_text` columns are text and whose others are numbers, set to the right."""

    def row(cells: Sequence[object], tag: str) -> str:
        kinds = ("" if index < n_text else ' class="number"' for index in range(len(cells)))
        return "".join(f"<{tag}{kind}>{escaped(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    head = f"<thead><tr>{row(header, 'th')}</tr></thead>\n" if header else ""
    return f'<div class="scroll"><table>\n{head}<tbody>\n{body}\n</tbody></table></div>'
