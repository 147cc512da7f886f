"""The labeler's page in a real Chromium: rating by keyboard and by mouse, lost connections, strings that would run."""

import contextlib
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from chromium import Page, chromium, find_chromium
from labeler_server import Served, make_items

from tinyllm.data.conversations.preferences import Preference
from tinyllm.labels import Item, LabelStore, read_labels
from tinyllm.labels.pairs import pairs_from_labels
from tinyllm.labels.store import Label
from tinyllm.models import GPT, GPTConfig, RewardModel
from tinyllm.rlhf.comparisons import encode_preferences
from tinyllm.rlhf.reward_model import PreferenceGroups, compare_pairs, pair_accuracy, preference_loss
from tinyllm.server import Labeling
from tinyllm.server.labeling import make_schedule
from tinyllm.tokenizers import CONTROL_TOKENS, END_OF_TEXT, BPETokenizer, chat_format
from tinyllm.training import TrainConfig, train

INJECTIONS = json.loads((Path(__file__).parents[1] / "fixtures" / "script_injections.json").read_text())
NO = [False] * 5
READY = "typeof busy !== 'undefined' && !busy && !!task"
CANARIES = "[window.ran, window.seen.alerts, window.seen.violations, document.title, location.pathname + location.search]"
QUIET = [None, 0, [], "Label answers - tinyllm", "/"]

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium")


@pytest.fixture(scope="module")
def address():
    with chromium() as address:
        yield address


@pytest.fixture
def browser(address):
    """browser(...) opens a tab, which is closed after the test."""
    pages = []
    yield lambda **settings: pages.append(Page(address, **settings)) or pages[-1]
    for page in pages:
        page.close()


@contextlib.contextmanager
def serving(items, path, *, labeler="anna", labels=(), repeat_every=10):
    """A server for these items, with labels already there."""
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason="needs the extra `serve`: pip install '.[serve]'")
    with LabelStore(path, items) as store:
        store.extend(labels)
        server = Served(Labeling(items, store, repeat_every=repeat_every), labeler=labeler)
        try:
            yield server
        finally:
            server.close()


def opened(browser, server, **settings):
    page = browser(**settings)
    page.open(server.launch.address)
    page.wait("location.search === '' && document.readyState === 'complete' && typeof busy !== 'undefined'")
    return page


def shown(page):
    """The texts of the answers, from the page."""
    return page.evaluate("[...document.querySelectorAll('.answer .text')].map((node) => node.textContent)")


def status(page):
    return page.evaluate("document.getElementById('status').textContent")


def rate_by_keys(page, ratings, flags=()):
    """Ratings in the order shown; None: the same as the one above. flags: (place, key)."""
    for place, key in flags:
        page.press(*["ArrowUp", "k"] * 3, *["j", "ArrowDown"] * (place // 2), *["j"] * (place % 2), key)
    page.press(*["k"] * 5)
    page.press(*("=" if rating is None else str(rating) for rating in ratings))


def rate_by_mouse(page, ratings, flags=()):
    for place, rating in enumerate(ratings):
        page.click(f".answer:nth-child({place + 1}) .step:nth-child({rating})")
    for place, key in flags:
        page.click(f".answer:nth-child({place + 1}) .flag:nth-child({'tmf'.index(key) + 1})")


def go_on(page, how):
    before = page.evaluate("task.position")
    how()
    page.wait(f"{READY} && (task.finished || task.position !== {before})")


def test_twenty_prompts_by_keyboard_and_by_mouse(browser, tmp_path):
    items, path, rng = make_items(20), tmp_path / "labels.jsonl", random.Random(0)
    meant = {}  # (item, repetition) -> {answer: (rating, flags)}, or None
    schedule = make_schedule(items, 10)
    with serving(items, path) as server:
        page = opened(browser, server)
        for position in range(22):
            page.wait(f"{READY} && task.position === {position}")
            item, repetition = schedule[position]
            texts = shown(page)
            ratings, flags = [rng.randint(1, 7) for _ in range(5)], {(rng.randrange(5), rng.choice("tmf")) for _ in range(2)}
            meant[item.id, repetition] = {
                text: (rating, {k for p, k in flags if p == place})
                for place, (text, rating) in enumerate(zip(texts, ratings, strict=True))
            }
            if position == 4:
                meant[item.id, repetition] = None
                go_on(page, lambda: page.press("s"))
            elif position == 5:
                meant[item.id, repetition] = None
                go_on(page, lambda: page.click("#skip"))
            elif position % 2:
                rate_by_keys(page, ratings, flags)
                go_on(page, lambda: page.press("Enter"))
            else:
                rate_by_mouse(page, ratings, flags)
                go_on(page, lambda: page.click("#submit"))
            assert status(page) in ("Saved.", "Skipped, and saved as that.")
        page.wait("!document.getElementById('finished').hidden")
        assert page.evaluate("document.getElementById('summary').textContent") == "22 items seen, 2 of them skipped."
        assert page.evaluate("document.getElementById('count').textContent") == "22 of 22"
        assert page.evaluate("document.getElementById('agreements').textContent").startswith("with yourself")
        assert page.errors == [] and page.evaluate(CANARIES) == QUIET
    labels = read_labels(path, items).newest()
    assert len(labels) == 22
    for item, repetition in schedule:
        said, label = meant[item.id, repetition], labels["anna", item.id, repetition]
        if said is None:
            assert label.skipped
        else:
            for place, text in enumerate(item.answers):
                flags = {
                    key
                    for key, name in zip("tmf", ("toxic", "made_up", "not_following"), strict=True)
                    if getattr(label, name)[place]
                }
                assert (label.ratings[place], flags) == said[text]


def taste(answer):
    """What the labeler of the next test thinks: 1 to 7, by how many words are kind."""
    return 1 + answer.split().count("kind")


def tasteful_items(n, rng, start=0):
    """Items whose answers hold 0 to 6 kind words, in any places."""
    answers = [" ".join(rng.sample(["kind"] * rng.randint(0, 6) + ["rude"] * 6, k=6)) for _ in range(5 * n)]
    return [Item(f"i{i}", f"prompt {start + i}", tuple(answers[5 * i : 5 * i + 5])) for i in range(n)]


def test_labels_given_on_the_page_train_a_reward_model(browser, tmp_path):
    rng, path = random.Random(0), tmp_path / "labels.jsonl"
    items, held_out = tasteful_items(20, rng), tasteful_items(20, rng, start=100)
    with serving(items, path, repeat_every=0) as server:
        page = opened(browser, server)
        for position in range(20):
            page.wait(f"{READY} && task.position === {position}")
            rate_by_keys(page, [taste(text) for text in shown(page)])
            go_on(page, lambda: page.press("Enter"))
    pairs, report = pairs_from_labels(read_labels(path, items).newest(), items)
    assert report.n_pairs > 120 and all(taste(pair.chosen) - taste(pair.rejected) == pair.margin for pair in pairs)

    tokenizer = BPETokenizer.train([b"prompt kind rude " * 50], vocab_size=290, special_tokens=(END_OF_TEXT, *CONTROL_TOKENS))
    chat = chat_format(tokenizer)
    truth = [
        Preference(list(item.prompt), *sorted(two, key=taste, reverse=True))
        for item in held_out
        for two in itertools.combinations(item.answers, 2)
        if taste(two[0]) != taste(two[1])
    ]
    config = GPTConfig(vocab_size=tokenizer.vocab_size, block_size=32, n_layers=1, n_heads=2, d_model=32)
    model = RewardModel(GPT(config, rng=np.random.default_rng(0)), rng=np.random.default_rng(1))
    groups, _ = encode_preferences(pairs, chat, block_size=32)
    others, _ = encode_preferences(truth, chat, block_size=32)
    before, _ = pair_accuracy(compare_pairs(model, others))
    source = PreferenceGroups(groups, batch_size=10, rng=np.random.default_rng(0))
    settings = TrainConfig(max_steps=60, learning_rate=5e-3, warmup_steps=5, eval_interval=0, checkpoint_interval=0)
    for _ in train(model, source, config=settings, loss_fn=preference_loss):
        pass
    after, _ = pair_accuracy(compare_pairs(model, others))
    assert before < 0.75 and after > 0.9, (before, after)


def test_the_keyboard_alone_does_everything(browser, tmp_path):
    items, path = make_items(3), tmp_path / "labels.jsonl"
    with serving(items, path, labeler="") as server:
        page = opened(browser, server)
        page.wait("!document.getElementById('start').hidden && document.activeElement.id === 'name'")
        page.type("Anna B.")
        page.press("Enter")
        page.wait(READY)
        page.press("3", "Enter")
        assert status(page) == "Answer B has no rating yet." and page.evaluate("current") == 1
        page.press("4", "=", "5", "=")
        assert page.evaluate("draft.ratings") == [3, 4, 4, 5, 5]
        assert status(page) == "All rated: Enter saves."
        go_on(page, lambda: page.press("Enter"))
        page.press("1", "2", "t")  # begun, and left
        go_on(page, lambda: page.press("b"))
        assert page.evaluate("[draft.ratings, task.label.ratings]") == [[3, 4, 4, 5, 5]] * 2
        page.press("7")
        go_on(page, lambda: page.press("Enter"))
        assert page.evaluate("[draft.ratings, draft.toxic]") == [[1, 2, None, None, None], [False, False, True, False, False]]
        page.press("ArrowDown", "ArrowDown", "ArrowUp", "Tab")
        assert page.evaluate("document.activeElement.closest('.answer') === document.querySelectorAll('.answer')[1]")
    labels = read_labels(path, items).labels
    assert [(label.labeler, label.revision) for label in labels] == [("Anna B.", 0), ("Anna B.", 1)]


def test_what_is_not_acknowledged_is_not_called_saved_and_is_sent_again(browser, tmp_path):
    items, path = make_items(3), tmp_path / "labels.jsonl"
    with serving(items, path) as server:
        page = opened(browser, server)
        page.wait(READY)
        page.call("Network.enable")
        page.press(*"34567")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        page.call("Network.emulateNetworkConditions", offline=True, **offline)
        page.press("Enter")
        page.wait("document.getElementById('status').textContent.startsWith('Not saved yet: the server does not answer.')")
        assert page.evaluate("busy && task.position === 0 && document.querySelector('.answer input').disabled")
        assert path.read_bytes() == b""
        page.call("Network.emulateNetworkConditions", offline=False, **offline)
        page.wait(f"{READY} && task.position === 1")
        assert status(page) == "Saved."
    assert len(read_labels(path, items).labels) == 1


def test_an_answer_lost_on_its_way_back_does_not_save_twice(browser, tmp_path):
    items, path = make_items(3), tmp_path / "labels.jsonl"
    with serving(items, path) as server:
        page = opened(browser, server)
        page.wait(READY)
        page.evaluate("""(() => { const real = window.fetch; let lost = 0; window.fetch = async (...words) => {
            const answer = await real(...words);
            if (String(words[0]) === '/api/label' && lost++ < 2) throw new TypeError('lost');
            return answer; }; })()""")
        page.press(*"34567", "Enter")
        page.wait("!document.getElementById('again').hidden")
        page.click("#again")
        page.wait(f"{READY} && task.position === 1")
    assert path.read_bytes().count(b'"key"') == 1


def test_a_label_can_be_changed_while_the_server_is_away(browser, tmp_path):
    items, path = make_items(3), tmp_path / "labels.jsonl"
    with serving(items, path) as server:
        page = opened(browser, server)
        page.wait(READY)
        page.evaluate("window.real = window.fetch; window.fetch = async () => { throw new TypeError('away'); }")
        page.press(*"34567", "Enter")
        page.wait("!document.getElementById('edit').hidden && (document.getElementById('edit').click(), true)")
        page.wait(READY)
        assert status(page) == "Not saved. Change it, then save again."
        page.evaluate("window.fetch = window.real")
        rate_by_keys(page, [7, 7, 7, 7, 7])
        go_on(page, lambda: page.press("Enter"))
    assert [label.ratings for label in read_labels(path, items).labels] == [(7,) * 5]


def test_the_address_may_be_followed_from_another_site(browser, tmp_path):
    """Names are sites: a link on localhost to 127.0.0.1 is a link from elsewhere, and Strict cookies are not sent with it."""
    with serving(make_items(3), tmp_path / "labels.jsonl") as server:
        page = browser()
        page.open(f"http://localhost:{server.launch.port}/")
        assert "no token" in page.evaluate("document.body.innerText")
        page.evaluate(f"location.href = '{server.launch.address}'")
        page.wait(f"location.hostname === '127.0.0.1' && {READY}")
        assert page.evaluate("location.pathname + location.search + history.length") == "/3"
        page.evaluate(f"location.href = 'http://localhost:{server.launch.port}/'")
        page.wait("location.hostname === 'localhost' && document.body.innerText.includes('no token')")
        page.evaluate(f"location.href = 'http://127.0.0.1:{server.launch.port}/'")
        page.wait("location.hostname === '127.0.0.1' && document.body.innerText.includes('no token')")


def test_a_server_started_anew_refuses_the_old_page_which_says_so(browser, tmp_path):
    items, path = make_items(3), tmp_path / "labels.jsonl"
    with serving(items, path) as server:
        page = opened(browser, server)
        page.wait(READY)
        page.evaluate("pageToken = 'of an earlier launch'")
        page.press(*"34567", "Enter")
        page.wait("document.getElementById('status').textContent.startsWith('Not saved: this page is from an earlier launch')")
        assert page.evaluate("draft.ratings") == [3, 4, 5, 6, 7]
    assert path.read_bytes() == b""


def names():
    """Injections that are allowed as a labeler's name."""
    return [text for text in INJECTIONS if text.isprintable() and text == text.strip() and 0 < len(text) <= 80]


def label_of(item, labeler, number):
    return Label(
        item=item.id,
        fingerprint=item.fingerprint,
        labeler=labeler,
        ratings=(1, 2, 3, 4, 5),
        order=(0, 1, 2, 3, 4),
        toxic=NO,
        made_up=NO,
        not_following=NO,
        key=f"other-{number:06d}",
    )


def injected_items():
    """Every string in every field of an item: as prompt, as the four roles' texts, as a tool call, as answer, id and source."""
    items = []
    for start in range(0, len(INJECTIONS), 5):
        five = (INJECTIONS[start : start + 5] * 5)[:5]
        turns = [
            {"role": "system", "content": five[0]},
            {"role": "user", "content": five[1]},
            {"role": "assistant", "content": "", "tool_call": five[2]},
            {"role": "tool", "content": five[3]},
            {"role": "assistant", "content": five[4]},
            {"role": "user", "content": five[0]},
        ]
        items.append(Item(five[0][:150] + str(start), turns, tuple(five), source=five[1], data={five[2]: five[3]}))
    return items


def test_no_string_in_any_field_runs(browser, tmp_path):
    items, path = injected_items(), tmp_path / "labels.jsonl"
    assert len(INJECTIONS) >= 150 and len(names()) >= 100
    mine = "<img src=x onerror=window.ran=1>"
    labels = [label_of(items[0], name, number) for number, name in enumerate(names()) if name != mine]
    with serving(items, path, labeler="", labels=labels) as server:
        page = opened(browser, server)
        page.wait("!document.getElementById('start').hidden && document.activeElement.id === 'name'")
        page.type(mine)
        page.press("Enter")
        page.wait(READY)
        places = "#prompt *, #answers *, #agreements *, #who *"
        tags = f"[...new Set([...document.querySelectorAll('{places}')].map((node) => node.localName))].sort()"
        total = page.evaluate("task.progress.total")
        for position in range(total):
            page.wait(f"{READY} && task.position === {position}")
            assert sorted(shown(page)) == sorted(page.evaluate("task.answers"))
            assert page.evaluate(tags) in (TAGS, sorted([*TAGS, "b", "li"]))
            page.press(*random.Random(position).choices("1234567", k=5), "t")
            go_on(page, lambda: page.press("Enter"))
        page.wait("!document.getElementById('finished').hidden")
        assert page.evaluate("document.getElementById('who').textContent") == mine
        listed = page.evaluate("[...document.querySelectorAll('#agreements .name')].map((node) => node.textContent)")
        assert len(listed) > 15 and {name.removeprefix("with ") for name in listed[1:]} <= set(names())
        page.press("b")
        page.wait(f"{READY} && !task.finished")
        assert page.errors == [] and page.dialogs == [] and page.evaluate(CANARIES) == QUIET
        assert page.evaluate("document.scripts.length") == 1
    assert len(read_labels(path, items).labels) == len(labels) + total


TAGS = ["article", "div", "h3", "input", "label", "p", "span"]


def test_the_canaries_sing_when_text_is_taken_for_markup(browser, tmp_path):
    """On a page without the policy the strings run; on ours the policy stops even what would get into the markup."""
    with serving(make_items(3), tmp_path / "labels.jsonl") as server:
        page = opened(browser, server)
        page.wait(READY)
        page.evaluate("document.getElementById('prompt').innerHTML = '<img src=x onerror=window.ran=1>'")
        page.wait("window.seen.violations.length > 0")
        assert page.evaluate("window.ran") is None
    bare = browser()
    bare.evaluate("document.body.innerHTML = '<img src=x onerror=window.ran=1>'")
    bare.wait("window.ran === 1")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_hangs_over_the_edge_and_the_focus_is_seen(browser, tmp_path, dark, width):
    item = Item("long", "word " * 300 + "x" * 500, ("y" * 700, "", "short", "\u0645\u0631\u062d\u0628\u0627 abc", "a\nb"))
    with serving([item], tmp_path / "labels.jsonl") as server:
        page = opened(browser, server, dark=dark, width=width, height=800)
        page.wait(READY)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("getComputedStyle(document.querySelector('.answer.current')).boxShadow") != "none"
        assert page.evaluate("document.querySelector('.answer.current') === document.activeElement")
        page.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle") == "solid"
        assert contrasts(page) == []


def contrasts(page):
    """Texts whose colour differs too little from what is behind it (WCAG 2.1: 4.5 to 1)."""
    return page.evaluate("""(() => {
      const parts = (colour) => colour.match(/[0-9.]+/g).map(Number);
      const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const light = (colour) => {
        const [r, g, b] = parts(colour).map((v) => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const behind = (node) => {
        for (; node; node = node.parentElement) {
          const colour = getComputedStyle(node).backgroundColor;
          if (parts(colour).length < 4 || parts(colour)[3] > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
      };
      const texts = '.text, .role, .step span, .flag span, .end, h1, '
        + 'h1 span, h2, h2 small, .help, kbd, #who, #count, #skip, #submit';
      return [...document.querySelectorAll(texts)].filter((node) => node.offsetParent)
        .map((node) => [light(getComputedStyle(node).color), light(behind(node)), node.className || node.id || node.localName])
        .map(([a, b, name]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), name])
        .filter(([ratio]) => ratio < 4.5);
    })()""")
