"""`tinyllm label`: people rate a model's answers on a page of their own computer; the ratings train a reward model.

    make       answers of a model to prompts, five each      -> items.jsonl
    serve      the page on which a person rates them         -> labels.jsonl
    simulate   or one whose preferences are known, for news  -> labels.jsonl
    agreement  how far labelers agree, also with themselves
    export     ratings as pairs (prompt, chosen, rejected)   -> pairs.jsonl
    import     such pairs as items and labels, to be judged again

`serve` needs the extra `serve`: pip install -e '.[serve]'.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyllm.cli.options import add_settings
from tinyllm.cli.parser import UsageError, lesson
from tinyllm.cli.resuming import add_files, files

if TYPE_CHECKING:
    from tinyllm.cli.settings import Group
    from tinyllm.labels import Item, LabelStore

EPILOG = """examples:
  tinyllm label make runs/chat prompts.jsonl --out items.jsonl
  tinyllm label serve items.jsonl --out labels.jsonl --labeler anna
  tinyllm label export items.jsonl labels.jsonl --out pairs.jsonl
"""
DEFAULT_PORT = 8642


def add_parser(subparsers: Any) -> None:
    """Add `label` with its verbs make, serve, simulate, agreement, export and import."""
    parser = subparsers.add_parser("label", help="rate a model's answers on a page", description=lesson(__doc__), epilog=EPILOG)
    verbs = parser.add_subparsers(dest="label_verb", metavar="<verb>", title="verbs", required=True)
    _add_make(verbs)
    _add_serve(verbs)
    _add_simulate(verbs)
    agreement = _add_verb(verbs, "agreement", run_agreement, "how far labelers agree")
    _add_paths(agreement, "items", "labels")
    export = _add_verb(verbs, "export", run_export, "ratings as pairs (prompt, chosen, rejected)")
    _add_paths(export, "items", "labels")
    export.add_argument("--out", required=True, metavar="FILE", help="file for the pairs, JSONL")
    taken = _add_verb(verbs, "import", run_import, "pairs as items and labels, to be judged again")
    taken.add_argument("pairs", metavar="PAIRS", help="pairs in any format that export, TRL or Anthropic's HH write")
    taken.add_argument("--items", required=True, metavar="FILE", help="file for the items, JSONL")
    taken.add_argument("--out", required=True, metavar="FILE", help="file for the labels, JSONL")
    taken.add_argument("--labeler", default="import", metavar="NAME", help="whose labels they are (default: import)")


def _add_make(verbs: Any) -> None:
    make = _add_verb(verbs, "make", run_make, "a model's answers to prompts")
    add = make.add_argument
    add("model", metavar="MODEL", help="folder of a model, or of a run")
    text = "JSONL with a prompt or messages a line; text, a prompt a line; or news, the built-in stories"
    add_files(make, "prompts", metavar="PROMPTS", flag="--prompts", text=text)
    add("--out", required=True, metavar="FILE", help="file for the items, JSONL")
    add_settings(make, _groups)


def _add_serve(verbs: Any) -> None:
    serve = _add_verb(verbs, "serve", run_serve, "the page on which a person rates")
    _add_paths(serve, "items")
    add = serve.add_argument
    add("--out", required=True, metavar="FILE", help="file for the labels, JSONL; an old one is continued")
    add("--labeler", default="", metavar="NAME", help="who labels (default: the page asks)")
    add("--repeat-every", type=int, default=10, metavar="N", help="of every N items one comes again; 0: none (default: 10)")
    add("--port", type=int, default=DEFAULT_PORT, metavar="N", help=f"0 takes any free one (default: {DEFAULT_PORT})")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="this machine only by default; another address needs --token")
    add("--token", metavar="TEXT", help="at least 16 characters that a browser must know (default: a new one each time)")


def _add_simulate(verbs: Any) -> None:
    simulate = _add_verb(
        verbs, "simulate", run_simulate, "a labeler whose preferences are known, for items made of the built-in news"
    )
    _add_paths(simulate, "items")
    add = simulate.add_argument
    add("--out", required=True, metavar="FILE", help="file for the labels, JSONL; an old one is continued")
    add("--labeler", default="simulated", metavar="NAME", help="the name, which also decides the noise (default: simulated)")
    add("--noise", type=float, default=0.5, metavar="X", help="standard deviation of the noise (default: 0.5)")
    add("--miss", type=float, default=0.1, metavar="P", help="chance to overlook a fault (default: 0.1)")
    add("--seed", type=int, default=1337, metavar="N", help="another number, other noise (default: 1337)")
    add("--repeat-every", type=int, default=10, metavar="N", help="label each N-th item twice; 0: none (default: 10)")


def _add_verb(verbs: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=summary, description=summary[:1].upper() + summary[1:] + ".", epilog=EPILOG)
    parser.set_defaults(run=run)
    return parser


def _add_paths(parser: argparse.ArgumentParser, *names: str) -> None:
    texts = {"items": "what is labeled: prompts and answers, JSONL", "labels": "what was said of them, JSONL"}
    for name in names:
        parser.add_argument(name, metavar=name.upper(), help=texts[name])


def run(args: argparse.Namespace) -> int:
    """Run the verb below `label` that the command line chose; returns the exit code."""
    return args.run(args)


def run_make(args: argparse.Namespace) -> int:
    """Sample the answers and write the items."""
    from tinyllm.cli.settings import read_groups
    from tinyllm.cli.terminal import Terminal
    from tinyllm.recipes.label import label

    if not files(args, "prompts"):
        raise UsageError("PROMPTS is missing: a file of prompts, or news for the built-in stories")
    config = read_groups(_groups(), args)["labeling"]
    with Terminal() as show:
        found = label(args.model, files(args, "prompts"), out=args.out, config=config, show=show)
    fewer = sum(len(item.answers) < config.n_answers for item in found.items)
    but = f", {fewer:,} of them with fewer" if fewer else ""
    print(f"{found.file}: {len(found.items):,} prompts with {config.n_answers} different answers each{but}")
    if found.n_left_out:
        print(f"left out: {found.n_left_out:,} prompts to which the model has one answer only")
    return 0


def _groups() -> list[Group]:
    from tinyllm.cli.settings import Group
    from tinyllm.recipes.label import LabelConfig

    return [Group("labeling", LabelConfig())]


def run_serve(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from tinyllm.labels import LabelStore
    from tinyllm.labels.store import check_labeler
    from tinyllm.server import Labeling, open_launch
    from tinyllm.server.labeler_app import make_app
    from tinyllm.server.launch import require_extra

    require_extra()
    if args.labeler:
        check_labeler(args.labeler)
    items = _items(args.items)
    with LabelStore(_path(args.out), items) as store:
        _warn_torn(store)
        labeling = Labeling(items, store, repeat_every=args.repeat_every)
        with open_launch(args.host, args.port, token=args.token) as launch:
            app = make_app(labeling, launch.access, labeler=args.labeler)
            if not launch.is_local:
                text = f"others can reach {args.host}, and the network in between can read along: this is plain HTTP"
                print("tinyllm: warning:", text, file=sys.stderr)
            try:
                print(f"open this address in a browser, Ctrl-C ends:\n\n  {launch.address}\n", flush=True)
                launch.serve(app)
            except KeyboardInterrupt:
                print(f"stopped; {len(store.newest):,} labels in {store.path}")
    return 0


def run_simulate(args: argparse.Namespace) -> int:
    """Label every item by its known truth and some noise."""
    from tinyllm.labels import LabelStore, expected_rating_accuracy
    from tinyllm.labels.news_items import news_gold, news_labeler

    if args.repeat_every < 0:
        raise ValueError(f"--repeat-every is {args.repeat_every}; expected 0 or more")
    items = _items(args.items)
    labeler = news_labeler(args.labeler, items, noise=args.noise, seed=args.seed, miss=args.miss)
    with LabelStore(_path(args.out), items) as store:
        _warn_torn(store)
        saved = labeler.label_all(items, store, repeat_every=args.repeat_every)
    golds = [[news_gold(item, answer) for answer in item.answers] for item in items]
    best = expected_rating_accuracy(golds, args.noise, thresholds=labeler.thresholds)
    print(f"{store.path}: {len(saved):,} labels by {args.labeler}")
    print(f"a reward model that knows the truth would agree with {best:.1%} of their pairs")
    return 0


def run_agreement(args: argparse.Namespace) -> int:
    """Print a table: each labeler with themselves, and each two of them."""
    from tinyllm.labels.agreement import agreement_table

    print("\n".join(agreement_table(_labels(args.labels, _items(args.items)).newest())))
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write the pairs, and say what was left out."""
    from tinyllm.data.conversations.preferences import write_preferences
    from tinyllm.labels.pairs import pairs_from_labels
    from tinyllm.recipes.label import new_file

    items = _items(args.items)
    out = new_file(args.out)
    pairs, report = pairs_from_labels(_labels(args.labels, items).newest(), items)
    if not pairs:
        raise ValueError(f"{args.labels} gives no pair to write ({report}); label more, with different ratings")
    write_preferences(out, pairs)
    print(f"{out}: {report}")
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Write items of two answers each, and labels that say which one was chosen."""
    from tinyllm.data.conversations.preferences import read_preferences
    from tinyllm.labels import LabelStore, write_items
    from tinyllm.labels.pairs import labels_from_pairs
    from tinyllm.recipes.label import new_file

    items_path, out = new_file(args.items), new_file(args.out)
    pairs, report = read_preferences(_path(args.pairs))
    items, labels = labels_from_pairs(pairs, labeler=args.labeler)
    write_items(items_path, items)
    with LabelStore(out, items) as store:
        store.extend(labels)
    print(f"{items_path}: {len(items):,} items; {out}: {len(labels):,} labels by {args.labeler}")
    print(report)
    return 0


def _items(path: str) -> list[Item]:
    from tinyllm.labels import read_items

    return read_items(_path(path))


def _labels(path: str, items: list[Item]) -> Any:
    """The labels of a file, with a word about what was passed over."""
    from tinyllm.labels import read_labels

    found = read_labels(_path(path), items)
    _warn_torn(found)
    return found


def _warn_torn(found: Any | LabelStore) -> None:
    if found.n_torn:
        print(f"tinyllm: note: {found.n_torn} labels were cut short by a crash before they were saved", file=sys.stderr)


def _path(path: str) -> Path:
    return Path(os.path.expanduser(path))
