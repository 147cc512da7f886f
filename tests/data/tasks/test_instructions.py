"""Facts about the instruction set: every answer is right, and the test set cannot be known from the training set."""

import re

import numpy as np
import pytest

from tinyllm.chat.calculator import calculate
from tinyllm.data.tasks import contents as made_up
from tinyllm.data.tasks import reading as reading_tasks
from tinyllm.data.tasks import small_talk as talk_tasks
from tinyllm.data.tasks.instructions import TASKS, is_correct, make_instructions
from tinyllm.data.tasks.tool_calls import SIGNS
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
    "spell": lambda item: item.answer,
    "sort": lambda item: item.answer,
    "largest and smallest": lambda item: tuple(sorted(re.findall(r"\d", question(item)))),
    "reverse": lambda item: tuple(sorted(item.answer.split())),
    "first and last": lambda item: tuple(sorted(listed(item))),
    "extract": lambda item: re.search(PERSON, question(item))[0],
    "calculator": lambda item: item.messages[1]["tool_call"],
    "small talk": lambda item: question(item),
}


def listed(item):
    """The words of a list in the question."""
    return re.findall(rf"\b(?:{'|'.join(made_up.WORDS)})\b", question(item))[-3:]


def contents(split, task, n=2500):
    items = make_instructions(n, split=split, rng=np.random.default_rng(3), tasks=[task])
    return {CONTENT[task](item) for item in items}


@pytest.mark.parametrize("task", CONTENT)
def test_no_content_of_the_test_set_occurs_in_training(task):
    train, test = contents("train", task), contents("test", task)
    assert len(test) >= 20 and not train & test


def test_no_topic_of_the_test_set_is_one_that_training_calls_unknown():
    sides = {split: [talk_tasks.unknown(np.random.default_rng(i), split)["t"] for i in range(800)] for split in made_up.SPLITS}
    assert len(set(sides["test"])) > 200 and not set(sides["train"]) & set(sides["test"])


def test_the_same_contents_are_held_out_in_tasks_of_the_same_kind():
    for one, other in (("reverse", "first and last"), ("sort", "largest and smallest")):
        sides = [{frozenset(c.split() if isinstance(c, str) else c) for c in contents(*side)}
                 for side in (("train", one), ("test", other))]  # fmt: skip
        assert sides[1] and not sides[0] & sides[1]


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


def test_some_questions_begin_with_a_small_letter_as_people_type_and_contents_stay(made):
    small = {split: [item for item in items if question(item)[0].islower()] for split, items in made.items()}
    assert 0.1 < len(small["train"]) / N < 0.3
    for item in small["train"]:
        if item.task == "extract":
            assert item.answer in question(item)
        if item.task == "spell":
            assert item.answer.replace(" ", "") in question(item)


def test_a_wrong_reply_is_wrong(made):
    for item in made["test"][:500]:
        for reply in ("", item.answer + "x", "x" + item.answer, item.answer[:-1], question(item)):
            assert not is_correct(item, reply), (item.task, reply)
        assert is_correct(item, f" {item.answer}\n")


def checked(task, split="train", n=300):
    return [(item, question(item)) for item in make_instructions(n, split=split, rng=np.random.default_rng(7), tasks=[task])]


@pytest.mark.parametrize("split", made_up.SPLITS)
def test_arithmetic_is_right(split):
    work_out = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    seen = set()
    for item, asked in checked("calculator", split):
        a, sign, b = re.fullmatch(r"(\d+)([+*/-])(\d+)", item.messages[1]["tool_call"]).groups()
        seen.add(sign)
        assert any(f"{a}{said}{b}" in asked for said in SIGNS[sign])
        assert int(item.answer) == work_out[sign](int(a), int(b)) and (sign != "/" or int(a) % int(b) == 0)
        assert item.messages[1:3] == [{"role": "assistant", "content": "", "tool_call": f"{a}{sign}{b}"},
                                      {"role": "tool", "content": item.answer}]  # fmt: skip
        assert calculate(f"{a}{sign}{b}") == item.answer
    assert seen == set(SIGNS)


def test_letters_are_right():
    for item, asked in checked("spell"):
        assert item.answer == " ".join(re.search(r"\b[A-Z]{3,5}\b", asked)[0])


@pytest.mark.parametrize("split", made_up.SPLITS)
def test_orders_are_right(split):
    for item, asked in checked("sort", split):
        assert item.answer.split() == sorted(re.findall(r"\d+", asked), key=int)
    for item, asked in checked("largest and smallest", split):
        wanted = max if "argest" in asked else min
        assert item.answer == wanted(re.findall(r"\d", asked))
    for item, _ in checked("reverse", split):
        assert listed(item) == item.answer.split()[::-1]
    for item, _ in checked("first and last", split):
        assert item.answer == listed(item)[-1 if "last" in item.template else 0]


def test_what_is_extracted_stands_in_the_sentence(made):
    for item in made["train"] + made["test"]:
        if item.task == "extract":
            assert item.answer in question(item).rpartition(".")[0]
            field = next(field for field, asked in reading_tasks.QUESTIONS.items() if item.template.endswith(asked))
            assert (item.answer in reading_tasks.DAYS) == (field == "{day}")
            assert (item.answer in reading_tasks.THINGS) == (field == "{what}")


def test_what_is_no_task_gets_the_answer_for_it(made):
    answers = {split: {item.answer for item in items if item.task == "small talk"} for split, items in made.items()}
    assert answers["train"] == answers["test"] == set(talk_tasks.TALK)
    for item in made["train"] + made["test"]:
        assert (item.answer == talk_tasks.UNKNOWN) == (item.task == "unknown"), question(item)
        assert question(item).strip(), item


def test_what_is_unknown_is_of_many_words():
    words = {word for i in range(500) for word in talk_tasks.unknown(np.random.default_rng(i), "train").values()}
    assert len(words) > 1000 and len(talk_tasks.topics()) > 500


def test_what_is_harder_to_learn_comes_more_often(made):
    counts = {name: sum(item.task == name for item in made["train"]) for name in TASKS}
    weights = {name: task.weight / sum(other.weight for other in TASKS.values()) for name, task in TASKS.items()}
    for name, count in counts.items():
        assert abs(count / N - weights[name]) < 4 * np.sqrt(weights[name] / N), name


# ---- the interface


def test_the_same_generator_makes_the_same_set():
    first, second = (make_instructions(50, split="train", rng=np.random.default_rng(1)) for _ in range(2))
    assert first == second != make_instructions(50, split="train", rng=np.random.default_rng(2))


def test_every_task_is_there_and_can_be_chosen(made):
    assert {item.task for item in made["test"]} == set(TASKS)
    chosen = make_instructions(40, split="test", rng=np.random.default_rng(0), tasks=["spell", "sort"])
    assert {item.task for item in chosen} == {"spell", "sort"}


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
