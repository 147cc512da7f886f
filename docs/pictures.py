"""The three pictures of README.md, each made from a run that anybody can make again:

    tinyllm quickstart                                                  some minutes
    python examples/11_ppo.py --kl-coefficient 0 --out runs/far --steps 480
    python docs/pictures.py chat runs/quickstart docs/chat.svg < docs/questions.txt
    python docs/pictures.py labeler runs/quickstart/labels/items.jsonl docs/labeler.png        needs chromium
    python docs/pictures.py far runs/far docs/overoptimisation.svg

Nothing is drawn that was not measured: the answers are the model's, the page is the labeler's own, the curve is metrics.jsonl.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from tinyllm.report.chart import Line, Plot, picture
from tinyllm.report.curves import smooth
from tinyllm.report.page import escaped
from tinyllm.report.run_record import read_run

LIGHT = {"paper": "#ffffff", "card": "#f6f7f9", "ink": "#1b1f24", "muted": "#5c6570", "grid": "#d5dae0", "train": "#2563b8",
         "validation": "#c2410c"}  # fmt: skip
DARK = {"paper": "#14171b", "card": "#1c2026", "ink": "#e6e9ed", "muted": "#9aa4b0", "grid": "#3a424c", "train": "#6ea8f5",
        "validation": "#fb8f54"}  # fmt: skip
WIDTH, COLUMNS, LINE = 760, 76, 21  # of the chat: pixels, letters in a line, height of a line


def standing_alone(body: str, size: tuple[float, float], *, label: str, font: str = "system-ui, sans-serif") -> str:
    """An SVG file of its own: it brings the colours that a page would have given, for light and for dark."""
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in colours.items()) for colours in (LIGHT, DARK))
    style = f"svg{{{light}font-family:{font}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escaped(label)}" '
        f'viewBox="0 0 {size[0]:g} {size[1]:g}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" rx="10" style="fill: var(--card)"/>\n{body}\n</svg>\n'
    )


def chat_picture(turns: list[tuple[str, list[str]]]) -> str:
    """Questions and what was said to each (calls of the calculator in brackets), as a terminal shows them."""
    lines: list[tuple[str, str, str]] = []  # who, words, colour
    for question, said in turns:
        lines += _folded("you>", question, "--train")
        for words in said:
            lines += _folded("" if words.startswith("[") else "bot>", words, "--muted" if words.startswith("[") else "--ink")
        lines.append(("", "", "--ink"))
    body = [
        f'<text x="28" y="{30 + LINE * i}" xml:space="preserve" font-size="14"><tspan style="fill: var(--muted)">{who}</tspan>'
        f'<tspan x="78" style="fill: var({colour})">{escaped(words)}</tspan></text>'
        for i, (who, words, colour) in enumerate(lines[:-1])
    ]
    height = 24 + LINE * (len(lines) - 1) + 12
    return standing_alone("\n".join(body), (WIDTH, height), label="a chat with the assistant", font="ui-monospace, monospace")


def _folded(who: str, words: str, colour: str) -> list[tuple[str, str, str]]:
    return [(who if i == 0 else "", line, colour) for i, line in enumerate(textwrap.wrap(words, COLUMNS) or [""])]


def talk(model: str, questions: list[str]) -> list[tuple[str, list[str]]]:
    """Each question in a chat of its own, and what the model says, its calls of the calculator with their results."""
    import tinyllm

    llm: Any = tinyllm.load(model)
    turns = []
    for question in questions:
        said = []
        for message in llm.chat(question, temperature=0.7).messages:
            if message["role"] == "tool":
                said[-1] += f" = {message['content']}]"
            elif "tool_call" in message:
                said.append(f"[calculator: {message['tool_call']}")
            else:
                said.append(message["content"])
        turns.append((question, said))
    return turns


def far_picture(run_folder: str) -> str:
    """Score and true reward against the distance from where the policy began."""
    run = read_run(run_folder)
    kl = dict(zip(*run.series("kl"), strict=True))
    lines = []
    for key, name, colour in (("score", "what the reward model thinks", 0), ("gold", "what is true", 1)):
        points = sorted((max(kl[step], 0.0), value) for step, value in zip(*run.series(key), strict=True) if step in kl)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        lines += [Line("", xs, ys, colour, dots=2.2, joined=False), Line(name, xs, smooth(ys, 4), colour)]
    across = "distance from the model that it began as: KL, in nats per answer"
    return picture([Plot("reward of a summary", across, lines)], title="Paid by a reward model alone", width=760, height=340)


def photograph_labeler(items: str, picture: str) -> None:
    """The labeler's page as a browser shows it, on a server of this program."""
    with tempfile.TemporaryDirectory() as folder:
        serve = [sys.executable, "-m", "tinyllm", "label", "serve", items, "--out", f"{folder}/labels.jsonl", "--labeler", "anna",
                 "--port", "0"]  # fmt: skip
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
            try:
                address = next(line.strip() for line in server.stdout or () if "http://" in line)
                flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=900,760 --virtual-time-budget=4000"
                browser = ["chromium", *flags.split(), f"--user-data-dir={folder}/browser"]
                subprocess.run([*browser, f"--screenshot={Path(picture).absolute()}", address], check=True, capture_output=True)
            finally:
                server.terminate()


def main(words: list[str]) -> None:
    """chat MODEL FILE, labeler ITEMS FILE or far RUN FILE."""
    if len(words) != 3 or words[0] not in ("chat", "labeler", "far"):
        raise SystemExit(__doc__)
    what, source, target = words
    if what == "labeler":
        photograph_labeler(source, target)
    elif what == "chat":
        questions = [line.strip() for line in sys.stdin if line.strip()]
        Path(target).write_text(chat_picture(talk(source, questions)), encoding="utf-8")
    else:
        Path(target).write_text(far_picture(source), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
