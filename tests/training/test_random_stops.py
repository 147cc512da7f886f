"""A sample of the random stops, in a program of its own: it forks, which a process with OpenMP's threads must not."""

import os
import subprocess
import sys
from pathlib import Path

import random_stops

import tinyllm


def test_a_sample_of_the_random_stops_ends_the_same():
    numbers = range(31, 34)  # a journey and two trainers
    assert [random_stops.subject_of(number) for number in numbers].count(random_stops.JOURNEY) == 1
    words = [sys.executable, random_stops.__file__, "--first", str(numbers[0]), "--stops", str(len(numbers))]
    environment = os.environ | {"PYTHONPATH": str(Path(tinyllm.__file__).parents[1])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "3 stops, 3 ended the same" in done.stdout, done.stdout + done.stderr[-2000:]


def test_every_trainer_gets_its_share_of_the_stops():
    subjects = [random_stops.subject_of(number) for number in range(200)]
    assert subjects.count(random_stops.JOURNEY) == 50
    assert min(subjects.count(name) for name in random_stops.every_trainer.TRAINERS) >= 12
