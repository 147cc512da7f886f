import math
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.chat.calculator import MAX_DEPTH, CalculatorError, as_text, calculate, evaluate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12*7", "84"), (" 1 + 2 * 3 ", "7"), ("(1+2)*3", "9"), ("10-4-3", "3"), ("100/5/2", "10"), ("7//2", "3"),
        ("-7//2", "-4"), ("7%3", "1"), ("-7 % 3", "2"), ("2**10", "1024"), ("2**3**2", "512"), ("-2**2", "-4"),
        ("(-2)**2", "4"), ("2**-2", "0.25"), ("--3", "3"), ("-+-3", "3"), ("2*-3", "-6"), ("0.1+0.2", "0.3"),
        (".5*4.", "2"), ("1/3", "0.3333333333"), ("2/3", "0.6666666667"), ("-1/8", "-0.125"), ("1/3*3", "1"),
        ("10**20+1", "100000000000000000001"), ("0**0", "1"), ("1234567.5*2+0.25", "2469135.25"),
        ("1/3000000", "0.0000003333333333"), ("0.0", "0"), ("100/0.25", "400"), ("1**99999999", "1"),
        ("(-1)**99999999", "-1"), ("0**5", "0"), ("7.5%2", "1.5"), ("100000/3", "33333.3333333333"), ("1\t+\n1", "2"),
        ("+".join(["(1)"] * 50), "50"),
    ],
)  # fmt: skip
def test_values(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1/0", "division by zero"), ("5 % (2-2)", "division by zero"), ("5//0", "division by zero"),
        ("0**-1", "division by zero"), ("", "nothing to calculate"), ("  ", "nothing to calculate"),
        ("1+", "ends where a number belongs"), ("*2", "'*' where a number belongs"),
        ("2 3", "'3' where an operator or the end belongs"), ("(1", "a parenthesis is not closed"),
        ("1)", "')' where an operator or the end belongs"), ("()", "')' where a number belongs"),
        ("x+1", "'x' is not part of arithmetic"), ("1,000", "',' is not part of arithmetic"),
        ("2**0.5", "an exponent that is not a whole number"), ("1e5", "'e' is not part"),
        ("9**9**9", "the result is too large"), ("10**60", "the result is too large"),
        ("2**-99999", "the result is too large"), ("9" * 61, "the result is too large"),
        ("1" * 201, "longer than 200 characters"), ("(" * 99, f"nested more than {MAX_DEPTH} deep"),
        ("-" * 99 + "1", f"nested more than {MAX_DEPTH} deep"), ("__import__('os')", "'_' is not part"),
        ("1..2", "'.2' where an"), ("٣+1", "'٣' is not part"),
        ("1.0000000001**999999999999", "the result is too large"),
    ],
)  # fmt: skip
def test_what_has_no_value_says_why(expression, reason):
    assert calculate(expression).startswith("error: ")
    assert reason in calculate(expression)
    with pytest.raises(CalculatorError):
        evaluate(expression)


numbers = st.one_of(st.integers(0, 99).map(str), st.sampled_from(["0.5", "2.25", ".125"]))


def grown(inner):
    operators = st.sampled_from(["+", "-", "*", "/", "//", "%"])
    return st.one_of(
        st.tuples(inner, operators, inner).map(" ".join), inner.map(lambda one: f"({one})"), inner.map(lambda one: f"-{one}"),
        st.tuples(numbers, st.integers(0, 3).map(str)).map("**".join),
    )  # fmt: skip


@given(expression=st.recursive(numbers, grown, max_leaves=8))
def test_values_are_those_of_python_on_exact_fractions(expression):
    literal = re.sub(r"[0-9]*\.?[0-9]+", lambda match: f"Fraction('{match[0]}')", expression)
    try:
        expected = eval(literal, {"Fraction": Fraction})  # ours never does; here it is the judge
    except ZeroDivisionError:
        assert calculate(expression) == "error: division by zero"
        return
    try:
        assert evaluate(expression) == expected
    except CalculatorError as error:
        assert str(error) == "the result is too large" or len(expression) > 200 or "nested" in str(error)


@given(text=st.one_of(st.text(max_size=210), st.text("0123456789+-*/%(). ", max_size=200)))
def test_any_text_gets_a_short_answer_quickly(text):
    start = time.process_time()
    answer = calculate(text)
    assert time.process_time() - start < 0.5 and answer and len(answer) < 150


HUGE = ["9**9**9**9", "(((9**63)**9)**9)", "*".join(["99999999"] * 20), "1/7" * 60, "2**" * 60 + "2"]


@pytest.mark.parametrize("expression", HUGE)
def test_nothing_grows_without_bound(expression):
    start = time.process_time()
    calculate(expression)
    assert time.process_time() - start < 0.1


@given(numerator=st.integers(-(10**12), 10**12), denominator=st.integers(1, 10**6))
def test_a_value_is_shown_to_ten_digits(numerator, denominator):
    value = Fraction(numerator, denominator)
    assert math.isclose(float(Fraction(as_text(value))), float(value), rel_tol=1e-9)
