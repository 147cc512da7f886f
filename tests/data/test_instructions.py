"""Facts about the instruction set: every answer is right, and the test set cannot be known from the training set."""

import builtins
import importlib
import inspect
import keyword
import re
import sys

import numpy as np
import pytest

from tinyllm.data import instructions, made_up, reading_tasks
from tinyllm.data.exact_tasks import add_by_digits, subtract_by_digits
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
    assert len(test) > 0.8 * N and not train & test


def test_no_phrasing_is_on_both_sides():
    for task in TASKS.values():
        train, test = ({phrasing.prompt for phrasing in task.phrasings(split)} for split in ("train", "test"))
        assert len(train) >= 3 and test and not train & test, task.name


def test_every_phrasing_is_of_its_own_task_and_split(made):
    for split, items in made.items():
        assert all(item.template in {p.prompt for p in TASKS[item.task].phrasings(split)} for item in items)
    everything = [p.prompt for task in TASKS.values() for split in made_up.SPLITS for p in task.phrasings(split)]
    assert len(everything) == len(set(everything)), "a phrasing that asks for two things has no right answer"


CONTENT = {  # what in a question must not occur on the other side
    "call signs": r"\b[A-Z]{4,5}\b|\b(?:[A-Z] ){3,4}[A-Z]\b",
    "large numbers": r"\b\d{3}\b [-+*] \b\d{2,3}\b",
    "names": rf"\b(?:{'|'.join(made_up.SYLLABLES[0])})[a-z]*(?:{'|'.join(made_up.SYLLABLES[2])})\b",
    "signatures": r"\w+\.\w+\(.*?\)",
}


@pytest.mark.parametrize("kind", CONTENT)
def test_no_content_of_the_test_set_occurs_in_training(made, kind):
    def found(split):
        return {text.replace(" ", "") for item in made[split] for text in re.findall(CONTENT[kind], question(item))}

    assert len(found("test")) > 50 and not found("train") & found("test")


@pytest.mark.parametrize("tasks", [("add", "subtract"), ("sort numbers", "largest number"), ("reverse words",), ("calculator",)])
def test_contents_are_held_out_whatever_their_order(tasks):
    def contents(split):
        items = make_instructions(3000, split=split, rng=np.random.default_rng(3), tasks=tasks)
        if tasks == ("reverse words",):
            return {tuple(sorted(item.answer.split())) for item in items}
        return {tuple(sorted(re.findall(r"\d+", question(item)))) for item in items}

    train, test = contents("train"), contents("test")
    assert len(test) > 100 and not train & test


def test_the_side_of_a_content_is_its_own_property():
    keys = [f"KEY{i}" for i in range(2000)]
    shares = [made_up.split_of(key) == "test" for key in keys]
    assert 0.15 < np.mean(shares) < 0.25
    assert [made_up.split_of(key) for key in ("KVORT", "12 57", "Mirabel")] == ["train", "train", "train"]


# ---- the answers


def test_conversations_are_well_formed_and_filled_in(made):
    for item in made["train"] + made["test"]:
        check_messages(item.messages)
        assert item.messages[-1]["role"] == "assistant" and not re.search(r"[{}]", question(item).replace("={}", ""))
        assert is_correct(item, item.messages[-1]["content"]) and item.answer


def test_a_wrong_reply_is_wrong(made):
    for item in made["test"][:500]:
        for reply in ("", item.answer + "x", "x" + item.answer, item.answer + " so", item.answer[:-1], question(item)):
            assert not is_correct(item, reply), (item.task, reply)
        assert is_correct(item, f" {item.answer}\n") and is_correct(item, f"let me see so {item.answer}")


def checked(task, split="train", n=300):
    return [(item, question(item)) for item in make_instructions(n, split=split, rng=np.random.default_rng(7), tasks=[task])]


@pytest.mark.parametrize("split", made_up.SPLITS)
def test_arithmetic_is_right(split):
    for item, asked in checked("add", split):
        assert int(item.answer) == sum(map(int, re.findall(r"\d+", asked)))
    for item, asked in checked("subtract", split):
        a, b = sorted(map(int, re.findall(r"\d+", asked)))
        assert int(item.answer) == b - a
    for item, _ in checked("calculator", split):
        a, sign, b = re.fullmatch(r"(\d+)([-+*])(\d+)", item.messages[1]["tool_call"]).groups()
        assert int(item.answer) == {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign] >= 0
        assert item.messages[2] == {"role": "tool", "content": item.answer} and a in question(item) and b in question(item)


def test_subtraction_takes_the_second_from_the_first():
    for _, asked in checked("subtract"):
        a, b = map(int, re.findall(r"\d+", asked))
        assert a >= b or re.search("Subtract|Take", asked), asked


def test_the_working_is_right_at_every_step():
    for a in range(100):
        for b in range(100):
            for work, total in ((add_by_digits(a, b), a + b), (subtract_by_digits(max(a, b), min(a, b)), abs(a - b))):
                (first, units), (second, tens) = (part.split("=") for part in work.split())
                value = {"+": sum, "-": lambda numbers: numbers[0] - sum(numbers[1:])}
                for left, right in ((first, units), (second, tens)):
                    sign = "+" if "+" in left else "-"
                    assert value[sign](list(map(int, left.split(sign)))) == int(right)
                assert int(tens) * 10 + int(units) % 10 == total


def test_numbers_in_words():
    expected = {0: "zero", 13: "thirteen", 20: "twenty", 47: "forty-seven", 100: "one hundred", 110: "one hundred and ten"}
    assert {number: made_up.number_in_words(number) for number in expected} == expected
    assert made_up.number_in_words(999) == "nine hundred and ninety-nine"
    assert len({made_up.number_in_words(number) for number in range(1000)}) == 1000
    with pytest.raises(ValueError, match="0 to 999"):
        made_up.number_in_words(1000)
    numbers = {made_up.number_in_words(number): number for number in range(1000)}
    for item, asked in checked("add in words"):
        a, b = (numbers[words] for words in re.findall(r"[a-z-]+", asked) if words in numbers)
        assert numbers[item.answer] == a + b


def test_letters_are_right():
    for item, asked in checked("spell") + checked("reverse letters") + checked("join letters"):
        letters = "".join(re.findall(r"\b[A-Z]{4,5}\b|\b[A-Z]\b(?= [A-Z]\b)|(?<=\b[A-Z] )[A-Z]\b", asked))
        expected = {"spell": " ".join(letters), "reverse letters": " ".join(letters[::-1]), "join letters": letters}
        assert item.answer == expected[item.task], asked
    for item, asked in checked("count letters"):
        sign = re.search(r"\b[A-Z]{4,5}\b", asked)[0]
        letter = re.search(r"\b[A-Z]\b", asked)
        assert int(item.answer) == (sign.count(letter[0]) if letter else len(sign)), asked


def test_orders_are_right():
    for item, asked in checked("sort numbers"):
        assert item.answer.split() == sorted(re.findall(r"\d+", asked), key=int)
    for item, asked in checked("largest number"):
        assert int(item.answer) == max(map(int, re.findall(r"\d+", asked)))
    for item, asked in checked("reverse words"):
        assert asked.rstrip(".").endswith(" ".join(item.answer.split()[::-1]))


def test_what_is_extracted_stands_in_the_sentence(made):
    for item in made["train"] + made["test"]:
        if item.task == "extract":
            assert item.answer in question(item).rpartition(".")[0]
            field = next(field for field, asked in reading_tasks.QUESTIONS.items()
                         if item.template.endswith((*asked["train"], *asked["test"])))  # fmt: skip
            assert (item.answer in reading_tasks.DAYS) == (field == "{day}")
            assert (item.answer in reading_tasks.THINGS) == (field == "{what}")


def test_python_is_as_it_is_asked():
    kinds = reading_tasks.python_names()
    assert set(kinds["a keyword"]) == set(keyword.kwlist)
    assert all(issubclass(getattr(builtins, name), BaseException) for name in kinds["an exception"])
    assert all(name in sys.stdlib_module_names for name in kinds["a module"])
    everything = [name for names in kinds.values() for name in names]
    assert len(everything) == len(set(everything)), "a name of two kinds has no right answer"


def test_signatures_are_those_of_the_library():
    modules = ("textwrap", "shutil", "calendar", "fnmatch", "bisect")
    functions = [function for function in reading_tasks.library_functions() if function.module in modules]
    assert len(functions) > 15
    for function in functions:
        parameters = inspect.signature(getattr(importlib.import_module(function.module), function.name)).parameters.values()
        if not any(p.kind in (p.POSITIONAL_ONLY, p.VAR_KEYWORD) for p in parameters):
            assert function.arguments == tuple(p.name for p in parameters)
            assert dict(function.defaults).keys() == {p.name for p in parameters if p.default is not p.empty}


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
    [({"n": 0}, "n must be"), ({"split": "dev"}, "split must be"), ({"tasks": ["ad"]}, "tasks holds the unknown 'ad'"),
     ({"tasks": []}, "tasks is empty")],  # fmt: skip
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


def test_the_separator_is_in_no_answer(made):
    assert all(instructions.SO not in item.answer for item in made["train"] + made["test"])
