"""A reward as a function in a file of one's own."""

import pytest

from tinyllm.rlhf.reward_function import load_reward_function

PROMPTS, ANSWERS = ["Hi", "Ho"], ["a", "abc"]


@pytest.fixture
def write(tmp_path):
    def make(text, name="my_reward.py"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return make


def test_a_function_of_a_prompt_and_an_answer(write):
    reward = load_reward_function(write("def score(prompt, answer):\n    return len(prompt + answer)\n") + ":score")
    assert reward(PROMPTS, ANSWERS) == [3.0, 5.0]


@pytest.mark.parametrize("second", ["answers", "completions"])
def test_a_function_of_lists(write, second):
    text = f"def score(prompts, {second}):\n    assert prompts == ['Hi', 'Ho']\n    return [len(a) > 1 for a in {second}]\n"
    assert load_reward_function(write(text) + ":score")(PROMPTS, ANSWERS) == [0.0, 1.0]


def test_the_file_may_hold_classes_and_import_what_it_likes(write):
    text = (
        "import dataclasses\nimport math\n\n@dataclasses.dataclass\nclass Taste:\n    n: 'int' = 1\n\n"
        "def score(prompt, answer, taste=Taste()):\n    return math.sqrt(taste.n)\n"
    )
    assert load_reward_function(write(text) + ":score")(PROMPTS, ANSWERS) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def score(prompt, answer)\n    return 1\n", "my_reward.py, line 1: SyntaxError: expected ':'"),
        ("import sys\nsys.exit(3)\n", "my_reward.py ends the program (exit code 3) when it is read; define the function alone"),
        ("x = 1\ny = 1 / 0\n", "my_reward.py, line 2, in <module>: ZeroDivisionError: division by zero"),
        ("def scores(a, b):\n    return 1\n", "has no function score; did you mean scores?"),
        ("def other(a, b):\n    return 1\n", "has no function score; it has other"),
        ("score = 3\n", "has no function score; it has no function"),
        ("def score(answer):\n    return 1\n", "cannot be called with a prompt and an answer; expected def score(prompt"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(write, text, fault):
    with pytest.raises(ValueError) as error:
        load_reward_function(write(text) + ":score")
    assert str(error.value).startswith("reward: ") and fault in str(error.value)


@pytest.mark.parametrize("where", ["my_reward.py", "my_reward.txt:score", ":score", "my_reward.py:", "my_reward.py:a.b", ""])
def test_words_that_name_no_function_are_refused(where):
    with pytest.raises(ValueError, match=r"^reward is .*; expected a file and a function in it, such as my_reward.py:score"):
        load_reward_function(where)


def test_a_missing_file_is_refused():
    with pytest.raises(ValueError, match="nowhere.py is no file"):
        load_reward_function("nowhere.py:score")


def test_an_error_in_the_function_tells_its_own_line_not_that_of_a_library(write):
    text = "import json\n\ndef read(text):\n    return json.loads(text)\n\ndef score(prompt, answer):\n    return read(answer)\n"
    with pytest.raises(ValueError, match=r"my_reward.py, line 4, in read: JSONDecodeError: ") as error:
        load_reward_function(write(text) + ":score")(PROMPTS, ANSWERS)
    assert type(error.value.__cause__).__name__ == "JSONDecodeError"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("def score(prompt, answer):\n    return None\n", "gave None for the answer 'a'; expected a finite number"),
        ("def score(prompt, answer):\n    return float('nan')\n", "gave nan for the answer 'a'"),
        ("def score(prompt, answer):\n    return 'good'\n", "gave 'good' for the answer 'a'"),
        ("def score(prompts, answers):\n    return [1]\n", "gave 1 values for 2 answers; expected a list with one number"),
        ("def score(prompts, answers):\n    return 1\n", "gave a int for 2 answers"),
    ],
)
def test_what_is_no_number_for_each_answer_is_refused(write, body, fault):
    with pytest.raises(ValueError) as error:
        load_reward_function(write(body) + ":score")(PROMPTS, ANSWERS)
    assert f"my_reward.py:score {fault}" in str(error.value)
