import json
import math
import re

import pytest
from hostile_pages import DRAWN, HARMLESS, PAYLOADS, Tags

from tinyllm.report import write_report
from tinyllm.report.run import duration, evenly, headline, metrics_csv, report_page, short
from tinyllm.report.run_record import read_run


def _write(folder, metrics, samples=(), config=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.json").write_text(json.dumps(config or {}))
    return folder


def _metrics(n=60):
    for step in range(1, n + 1):
        yield {"event": "step", "step": step, "loss": 6 - step / 20, "learning_rate": 1e-3, "grad_norm": 1.5,
               "tokens_seen": step * 100, "ms_per_step": 500.0, "tokens_per_second": 200.0, "time": 1e9 + step}  # fmt: skip
        if step % 20 == 0:
            yield {"event": "evaluation", "step": step, "val_loss": 6.5 - step / 20, "seconds": 2.0}


def test_a_report_shows_the_run_and_loads_nothing(tmp_path):
    samples = [{"step": 20, "prompt": "The ", "text": "cat\n  sat", "temperature": 0.5}]
    config = {"settings": {"model": {"vocab_size": 500, "n_layers": 3}, "training": {"max_steps": 90, "grad_clip": 1.0}}}
    run = _write(tmp_path / "my run", _metrics(), samples, config)
    path = write_report(run)
    assert path == run / "report.html"
    markup = path.read_text(encoding="utf-8")
    found = Tags(markup)
    assert found.tags - HARMLESS <= DRAWN
    assert not {"src", "srcset", "xlink:href", "onload", "onerror"} & found.names
    assert "http://" not in markup and "https://" not in markup and "@import" not in markup
    assert markup.count("<svg ") == 4 and "The numbers" in found.text
    drawn = ("loss (nats per token)", "best 3.500", "guessing blindly: ln 500 = 6.21", "clipped above 1", "tokens per second")
    for expected in (
        *drawn,
        "my run",
        "3.500",
        "33.12",
        "60 of 90 steps",
        "36 s",
        "200 tokens per second",
        "cat\n  sat",
        "3 layers",
    ):
        assert expected in found.text, expected
    assert (run / "metrics.csv").exists()


def test_nothing_from_a_run_becomes_markup(tmp_path):
    for number, payload in enumerate(PAYLOADS):
        samples = [{"step": 1, "prompt": payload, "text": payload}, {"step": payload, "text": payload}]
        config = {
            "settings": {payload: {payload: payload, "nested": [payload]}, "plain": payload, "n_layers": payload},
            "environment": {"processor": payload, "threads": payload},
        }
        run = _write(tmp_path / f"run {number} {payload.replace('/', '')}", _metrics(5), samples, config)
        (run / "mixture.json").write_text(json.dumps([{"name": payload, "epochs": payload, "bytes": payload}]))
        markup = write_report(run).read_text(encoding="utf-8")
        found = Tags(markup)
        assert found.tags <= HARMLESS | DRAWN
        assert not [name for name in found.names if name.startswith("on") or name in ("srcdoc", "src")]
        assert payload in found.text


def test_missing_keys_leave_their_part_out(tmp_path):
    markup = write_report(_write(tmp_path, [{"step": 3, "val_loss": 2.0}])).read_text()
    assert "best validation loss" in markup and "parameters" not in markup and "What it wrote" not in markup
    markup = write_report(_write(tmp_path, [{"step": 3, "loss": 2.0}, {"step": 4}])).read_text()
    assert "training loss at the end" in markup and "perplexity</th>" in markup
    markup = write_report(_write(tmp_path, [{"step": 3, "tokens_per_second": 2.0}])).read_text()
    assert "The numbers" not in markup and markup.count("<svg ") == 1


def test_a_torn_line_is_told(tmp_path):
    run = _write(tmp_path, _metrics(3))
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert "1 line of metrics.jsonl and samples.jsonl could not be read" in write_report(run).read_text()


def test_a_run_without_measurements_leaves_no_report(tmp_path):
    with pytest.raises(ValueError, match="holds no measurements .*train for at least one step"):
        write_report(_write(tmp_path, []))
    assert not (tmp_path / "report.html").exists()


def test_a_diverged_run_still_has_a_report(tmp_path):
    metrics = [{"step": i, "loss": 10.0**i, "val_loss": 10.0**i, "grad_norm": 0.0 if i % 2 else 1e30} for i in range(30)]
    assert "What it wrote" not in write_report(_write(tmp_path, metrics)).read_text()


def test_bits_per_byte_and_perplexity_follow_from_the_best_validation_loss(tmp_path):
    run = read_run(_write(tmp_path, _metrics()))
    object.__setattr__(run, "tokens_per_byte", 0.25)
    numbers = {name: number for number, name, _ in headline(run)}
    assert numbers["best validation loss"] == "3.500"
    assert numbers["perplexity"] == f"{math.exp(3.5):,.4g}"
    assert numbers["bits per byte"] == f"{3.5 / math.log(2) / 4:.3f}"


def test_few_of_many_samples_are_shown_the_first_and_the_last_among_them(tmp_path):
    samples = [{"step": step, "text": f"<{step}>" + "x" * 3000} for step in range(100)]
    markup = write_report(_write(tmp_path, _metrics(3), samples)).read_text()
    assert markup.count('class="sample"') == 8 and "&lt;0&gt;" in markup and "&lt;99&gt;" in markup
    assert "8 of 100 samples" in markup and "1,803 more characters" in markup


def test_evenly_keeps_the_ends():
    assert evenly(list(range(10)), 4) == [0, 3, 6, 9]
    assert evenly([1, 2], 4) == [1, 2]


def test_numbers_and_times_are_written_as_people_read_them():
    assert [short(n) for n in (0, 999, 12_345_678, 1_500_000_000)] == ["0 ", "999 ", "12.3 M", "1.5 G"]
    assert [duration(s) for s in (3.21, 59, 247, 7320, 180_000)] == ["3.2 s", "59 s", "4 min 7 s", "2 h 2 min", "2 d 2 h"]


def test_the_table_for_spreadsheets_has_numbers_alone(tmp_path):
    run = read_run(_write(tmp_path, [{"step": 1, "loss": 2.5, "=cmd()": 3, "note": "=cmd()"}, {"step": 2, "lr": 0.1}]))
    assert metrics_csv(run) == "step,loss,lr\n1,2.5,\n2,,0.1\n"


def test_names_of_settings_stay_whole_and_a_sha256_is_shown_by_its_beginning(tmp_path):
    """A narrow column broke model_sha256 in two, beside 64 digits that nobody reads."""
    settings = {"inputs": {"model": "runs/mine", "model_sha256": "0123456789abcdef" * 4, "note": "0123456789abcdef" * 3}}
    markup = write_report(_write(tmp_path, _metrics(3), config={"settings": settings})).read_text()
    assert "<td>model_sha256</td><td>0123456789ab…</td>" in markup and "0123456789abcdef" * 3 in markup
    assert ".settings td:first-child { white-space: nowrap; }" in markup


def test_every_evaluation_has_its_dot_across_a_long_gap(tmp_path):
    records = [{"step": i, "loss": 2.0} for i in range(1, 400)] + [{"step": i, "val_loss": 2.0 + i / 400} for i in (0, 1, 2, 399)]
    markup = report_page(read_run(_write(tmp_path, records)))
    dots = re.findall(r'<circle cx="([\d.]+)" [^>]*class="f1"', markup)
    assert len(dots) == 4 + 1 and dots[4] == dots[0], "the first is the best, and marked"
    assert float(dots[3]) - float(dots[2]) > 850 > 10 > float(dots[2]) - float(dots[0])
