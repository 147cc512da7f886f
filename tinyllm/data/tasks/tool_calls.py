"""Knowing when not to answer by oneself: the calculator is asked for every sum, so that every sum is right.

    What is 47 times 8?   ->   call 47*8   ->   tool 376   ->   376

A small network cannot multiply 47 by 8 in its head, and it need not: it writes the expression, a program computes it,
and the model reads the result (Schick et al. 2023, "Toolformer", section 2; here from demonstrations alone). So what it has to
learn is to copy: numbers into the call, the result into the answer.
"""

import numpy as np

from tinyllm.data.tasks.contents import draw, pick
from tinyllm.data.tasks.exact import Fields, crossed, joined, task

SIGNS = {  # in the call -> in the question
    "+": (" + ", "+", " plus "),
    "-": (" - ", "-", " minus "),
    "*": (" * ", "*", " times ", " multiplied by "),
    "/": (" / ", "/", " divided by "),
}
LONGEST = 3  # digits of a number; of one in a division one less


def calculation(rng: np.random.Generator, split: str) -> Fields:
    """Two numbers in the words of a question, and what the calculator is to be asked. Divisions leave no rest."""

    def expression(r: np.random.Generator) -> str:
        sign = pick(list(SIGNS), r)
        longest = LONGEST - 1 if sign == "/" else LONGEST
        a, b = (int(r.integers(10 ** (n - 1), 10**n)) for n in r.integers(1, longest + 1, size=2))
        return f"{a * b if sign == '/' else a}{sign}{b}"

    call = draw(expression, split=split, rng=rng)
    sign = next(sign for sign in SIGNS if sign in call)
    a, b = map(int, call.split(sign))
    answer = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    return {"sum": f"{a}{pick(SIGNS[sign], rng)}{b}", "call": call, "answer": str(answer)}


_ASKED = crossed(
    ("What is", "How much is", "Work out", "Say what is", "Calculate", "Compute", "What's", "Tell me", "Please work out",
     "What do you get for", "Can you calculate", "And"),
    (" {sum}?", " {sum}", ": {sum}", " {sum} ="),
)  # fmt: skip
_BARE = crossed(("",), ("{sum}", "{sum} =", "{sum}?", "{sum} = ?"))
TASKS = (task("calculator", calculation, joined(_ASKED, _BARE), weight=5.0),)
