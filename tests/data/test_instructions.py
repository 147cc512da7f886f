"""Facts about the instruction set: every answer is right, and the test set cannot be known from the training set."""

import builtins
import importlib
import inspect
import re

import numpy as np
import pytest

from tinyllm.data import made_up, reading_tasks
from tinyllm.data.instructions import TASKS, is_correct, make_instructions
from tinyllm.data.tool_tasks import REFUSAL
from tinyllm.tokenizers.chat import check_messages

N = 4000


@pytest.fixture(scope="module")
def made():
    return {split: make_instructions(N, split=split, rng=np.random.default_rng(i)) for i, split in enumerate(("train", "test"))}


def question(item):
    return item.prompt[-1]["content"]


# ---- training and test


def test_no_test_question_stands_in_the_training_set(made):
    train, test = ({question(item) for item in made[split]} for split in ("train", "test"))
    assert len(test) > 0.5 * N and not train & test


def test_no_phrasing_is_on_both_sides():
    for task in TASKS.values():
        train, test = ({phrasing.prompt for phrasing in task.phrasings(split)} for split in ("train", "test"))
        assert len(train) >= 3 and test and not train & test, task.name


def test_every_phrasing_is_of_its_own_task_and_split(made):
    for split, items in made.items():
        assert all(item.template in {p.prompt for p in TASKS[item.task].phrasings(split)} for item in items)
    everything = [p.prompt for task in TASKS.values() for split in made_up.SPLITS for p in task.phrasings(split)]
    assert len(everything) == len(set(everything)), "a phrasing that asks for two things has no right answer"


PERSON = rf"\b(?:{'|'.join(made_up.FIRST_NAMES)}) (?:{'|'.join(made_up.LAST_NAMES)})\b"
CONTENT = {  # task -> the content of an item, by which the sides must differ
    "add": lambda item: tuple(re.findall(r"\d+", question(item))),
    "subtract": lambda item: (item.answer, re.findall(r"\d+", question(item))[1]),
    "add in words": lambda item: re.search(r"(\S+) plus (\w+)", question(item)).groups(),
    "digits to words": lambda item: item.answer,
    "words to digits": lambda item: made_up.number_in_words(int(item.answer)),
    "spell": lambda item: item.answer,
    "count letters": lambda item: tuple(re.findall(r"\b[A-Z]\b", question(item))),
    "sort": lambda item: item.answer,
    "largest and smallest": lambda item: tuple(sorted(re.findall(r"\d", question(item)))),
    "reverse": lambda item: tuple(sorted(item.answer.split())),
    "first and last": lambda item: tuple(sorted(question(item).rpartition(": ")[2].split())),
    "extract": lambda item: re.search(PERSON, question(item))[0],
    "python signature": lambda item: re.search(r"\w+\.\w+(?=\()", question(item))[0],
    "python names": lambda item: re.sub(r"Python|[Ww]hat|[Ss]ay|\bis\b|\b[Ii]n\b|[^\w]", "", question(item)),
    "calculator": lambda item: item.messages[1]["tool_call"],
}


def contents(split, task, n=2500):
    items = make_instructions(n, split=split, rng=np.random.default_rng(3), tasks=[task])
    return {CONTENT[task](item) for item in items}


@pytest.mark.parametrize("task", CONTENT)
def test_no_content_of_the_test_set_occurs_in_training(task):
    train, test = contents("train", task), contents("test", task)
    assert len(test) >= 20 and not train & test


def test_the_same_contents_are_held_out_in_tasks_of_the_same_kind():
    for one, other in (("add", "subtract"), ("digits to words", "words to digits"), ("reverse", "first and last")):
        assert not contents("train", one) & contents("test", other)
    for task in ("refuse", "harmless", "extract"):
        people = {split: {found[0] for item in make_instructions(1500, split=split, rng=np.random.default_rng(1), tasks=[task])
                          if (found := re.search(PERSON, question(item)))} for split in made_up.SPLITS}  # fmt: skip
        assert len(people["test"]) > 50 and not people["train"] & people["test"]
        assert all(made_up.split_of(person) == split for split, found in people.items() for person in found)


def test_the_side_of_a_content_is_its_own_property():
    keys = [f"KEY{i}" for i in range(2000)]
    shares = [made_up.split_of(key) == "test" for key in keys]
    assert 0.15 < np.mean(shares) < 0.25
    assert [made_up.split_of(key) for key in ("KVG", "34 7", "Anna Reed")] == ["train", "test", "train"]


# ---- the answers


def test_conversations_are_well_formed_and_filled_in(made):
    for item in made["train"] + made["test"]:
        check_messages(item.messages)
        assert item.messages[-1]["role"] == "assistant" and not re.search(r"[{}]", question(item).replace("={}", ""))
        assert is_correct(item, item.messages[-1]["content"]) and item.answer


def test_a_wrong_reply_is_wrong(made):
    for item in made["test"][:500]:
        for reply in ("", item.answer + "x", "x" + item.answer, item.answer[:-1], question(item)):
            assert not is_correct(item, reply), (item.task, reply)
        assert is_correct(item, f" {item.answer}\n")


def checked(task, split="train", n=300):
    return [(item, question(item)) for item in make_instructions(n, split=split, rng=np.random.default_rng(7), tasks=[task])]


@pytest.mark.parametrize("split", made_up.SPLITS)
def test_arithmetic_is_right(split):
    for task, value in (("add", lambda a, b: a + b), ("subtract", lambda a, b: a - b), ("calculator", lambda a, b: a * b)):
        for item, asked in checked(task, split):
            a, b = map(int, re.findall(r"\d+", asked))
            assert int(item.answer) == value(a, b) >= 0
            if task == "calculator":
                assert item.messages[1:3] == [{"role": "assistant", "content": "", "tool_call": f"{a}*{b}"},
                                              {"role": "tool", "content": item.answer}]  # fmt: skip
    numbers = {made_up.number_in_words(number): number for number in range(1000)}
    for item, asked in checked("add in words", split):
        a, b = (numbers[words] for words in re.findall(r"[a-z-]+", asked) if words in numbers)
        assert numbers[item.answer] == a + b and item.answer.count("-") == 1


def test_numbers_in_words():
    expected = {0: "zero", 13: "thirteen", 20: "twenty", 47: "forty-seven", 100: "one hundred", 110: "one hundred and ten"}
    assert {number: made_up.number_in_words(number) for number in expected} == expected
    assert made_up.number_in_words(999) == "nine hundred and ninety-nine"
    assert len({made_up.number_in_words(number) for number in range(1000)}) == 1000
    with pytest.raises(ValueError, match="0 to 999"):
        made_up.number_in_words(1000)


def test_letters_are_right():
    for item, asked in checked("spell"):
        assert item.answer == " ".join(re.search(r"\b[A-Z]{3}\b", asked)[0])
    for item, asked in checked("count letters"):
        assert int(item.answer) == len(re.findall(r"\b[A-Z]\b", asked))


@pytest.mark.parametrize("split", made_up.SPLITS)
def test_orders_are_right(split):
    for item, asked in checked("sort", split):
        assert item.answer.split() == sorted(re.findall(r"\d+", asked), key=int)
    for item, asked in checked("largest and smallest", split):
        wanted = max if "argest" in asked else min
        assert item.answer == wanted(re.findall(r"\d", asked))
    for item, asked in checked("reverse", split):
        assert asked.endswith(" ".join(item.answer.split()[::-1]))
    for item, asked in checked("first and last", split):
        listed = asked.rpartition(": ")[2].split()
        assert len(listed) == 3 and item.answer == listed[-1 if "last" in item.template else 0]


def test_what_is_extracted_stands_in_the_sentence(made):
    for item in made["train"] + made["test"]:
        if item.task == "extract":
            assert item.answer in question(item).rpartition(".")[0]
            field = next(field for field, asked in reading_tasks.QUESTIONS.items() if item.template.endswith(asked))
            assert (item.answer in reading_tasks.DAYS) == (field == "{day}")
            assert (item.answer in reading_tasks.THINGS) == (field == "{what}")


def test_python_is_as_it_is_asked():
    kinds = reading_tasks.python_names()
    assert all(issubclass(getattr(builtins, name), BaseException) for name in kinds["an exception"])
    assert all(callable(getattr(builtins, name)) for name in kinds["a function"]) and "len" in kinds["a function"]
    assert all(name.startswith("__") for name in kinds["a special name"]) and "__add__" in kinds["a special name"]
    everything = [name for names in kinds.values() for name in names]
    assert len(everything) == len(set(everything)), "a name of two kinds has no right answer"


def test_signatures_are_those_of_the_library():
    modules = ("textwrap", "shutil", "calendar", "fnmatch", "bisect", "genericpath", "posixpath")
    functions = [function for function in reading_tasks.library_functions() if function.module in modules]
    assert len(functions) > 15
    for function in functions:
        parameters = inspect.signature(getattr(importlib.import_module(function.module), function.name)).parameters
        assert function.arguments == tuple(parameters), function
    for item, asked in checked("python signature"):
        arguments = re.search(r"\((.*)\)", asked)[1].split(", ")
        assert item.answer in (arguments[0], arguments[-1], str(len(arguments)))
        assert item.answer.isdigit() == ("number" in item.template)


def test_what_is_to_be_refused_is_refused_and_its_look_alikes_are_answered(made):
    for item in made["train"] + made["test"]:
        assert (item.answer == REFUSAL) == (item.task == "refuse"), question(item)


# ---- the interface


def test_the_same_generator_makes_the_same_set():
    first, second = (make_instructions(50, split="train", rng=np.random.default_rng(1)) for _ in range(2))
    assert first == second != make_instructions(50, split="train", rng=np.random.default_rng(2))


def test_every_task_is_there_and_can_be_chosen(made):
    assert {item.task for item in made["test"]} == set(TASKS)
    chosen = make_instructions(40, split="test", rng=np.random.default_rng(0), tasks=["spell", "add"])
    assert {item.task for item in chosen} == {"spell", "add"}


def test_questions_are_short(made):
    assert max(len(question(item)) for item in made["train"]) <= 110


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"split": "dev"}, "split must be"),
        ({"tasks": ["ad"]}, "tasks holds the unknown 'ad'"),
        ({"tasks": []}, "tasks is empty"),
    ],  # fmt: skip
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_instructions(**{"n": 1, "split": "train", "rng": np.random.default_rng(0), **arguments})


def test_a_summary_is_right_if_it_holds_all_the_facts():
    rng = np.random.default_rng(0)
    train, test = (make_instructions(300, split=split, rng=rng, tasks=["summary"]) for split in made_up.SPLITS)
    assert not {question(item) for item in train} & {question(item) for item in test}
    assert not {item.template for item in train} & {item.template for item in test}
    for item in test:
        assert is_correct(item, item.answer) and is_correct(item, f"Well: {item.answer} That was all.")
        assert not any(is_correct(item, item.answer.replace(fact, "")) for fact in item.facts)
