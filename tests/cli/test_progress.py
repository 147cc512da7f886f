"""Progress as lines, and as a bar where there is a terminal."""

import errno
import io

import pytest

from tinyllm.cli.progress import Progress
from tinyllm.recipes.durations import format_seconds


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(total, times, *, first=0, **facts):
    """What is printed when one more is done at each of the times."""
    stream, clock = io.StringIO(), Clock()
    with Progress("training", total, unit="steps", stream=stream, clock=clock) as progress:
        for done, clock.now in enumerate(times, start=first):
            progress.show(done, **facts)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (92, "1m32s"), (7500, "2h05m")])
def test_durations_read_well(seconds, text):
    assert format_seconds(seconds) == text


def test_a_line_comes_at_once_then_every_few_seconds_and_at_the_end():
    lines = lines_of(20, range(21), loss="3.2")
    assert lines[0] == "training  0/20 steps    0%  loss 3.2"
    assert lines[1] == "training  5/20 steps   25%  loss 3.2  15s left"
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [0, 5, 10, 15, 20]


def test_quick_work_prints_its_first_and_last_line_only():
    assert len(lines_of(1000, [i / 1000 for i in range(1001)])) == 2


def test_a_resumed_run_counts_time_left_from_where_it_began():
    assert lines_of(100, [0, 5], first=98)[1].endswith("99/100 steps   99%  5s left")


def test_without_a_total_the_count_is_shown():
    assert lines_of(None, [0, 10]) == ["training 0 steps", "training 1 steps"]


def test_names_of_facts_are_words():
    assert lines_of(1, [0], val_loss="2.1")[0].endswith("val loss 2.1")


def test_in_a_terminal_with_tqdm_there_is_a_bar_and_lines_do_not_tear_it():
    pytest.importorskip("tqdm")
    stream = Terminal()
    with Progress("training", 10, unit="steps", stream=stream) as progress:
        progress.show(3, loss="1.5")
        progress.say("a sample")
        progress.show(10, loss="1.2")
    shown = stream.getvalue()
    assert "loss 1.2" in shown and "10/10" in shown
    assert any(part.strip("\n") == "a sample" for part in shown.replace("\r", "\n").split("\n"))


def test_a_pipe_never_gets_a_bar():
    assert "\r" not in "".join(lines_of(3, range(4)))


def test_work_goes_on_when_the_terminal_was_closed():
    class Closed(io.StringIO):
        error = errno.EIO

        def write(self, text):
            raise OSError(self.error, "no")

    progress = Progress("training", 10, stream=Closed())
    progress.show(1)
    progress.say("a sample")
    Closed.error = errno.ENOSPC  # a log file's full disk is another matter
    with pytest.raises(OSError, match="no"):
        progress.say("a sample")


def test_nothing_is_shown_of_work_that_never_began():
    stream = Terminal()
    with Progress("downloading", stream=stream):
        pass
    assert stream.getvalue() == ""
