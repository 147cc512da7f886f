"""A calculator for a model to call: arithmetic is read by a small grammar, so text from a model never runs as code.

    expression = term, then any of  + term | - term
    term       = factor, then any of  * factor | / factor | // factor | % factor
    factor     = + factor | - factor | power
    power      = atom, or  atom ** factor                (so -2**2 = -4 and 2**3**2 = 2**9, as in Python and on paper)
    atom       = a number such as 12, 3.5 or .5, or  ( expression )

One function a rule: recursive descent. Numbers are exact fractions, so 0.1 + 0.2 is 0.3. Everything a hostile text could
make large (its length, nesting, digits, powers) has a limit, which is checked before the work and not after it.
"""

import decimal
import re
from fractions import Fraction

MAX_LENGTH = 200  # characters of an expression
MAX_DEPTH = 30  # parentheses, signs and powers within each other
MAX_DIGITS = 60  # of a number above or below the fraction's line
DECIMALS = 10  # shown of a number that has more
_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)|(\*\*|//|[-+*/%()]))")


class CalculatorError(ValueError):
    """An expression that has no value here; the text says why, in a few words."""


def calculate(expression: str) -> str:
    """The value of an arithmetic expression as text, "84" or "0.3333333333"; "error: division by zero" where it has none."""
    try:
        return as_text(evaluate(expression))
    except CalculatorError as error:
        return f"error: {error}"


def evaluate(expression: str) -> Fraction:
    """The exact value of an arithmetic expression. CalculatorError (a ValueError) if it has none, or is too large."""
    if not isinstance(expression, str):
        raise CalculatorError(f"got {type(expression).__name__}, expected text")
    if len(expression) > MAX_LENGTH:
        raise CalculatorError(f"longer than {MAX_LENGTH} characters")
    return _Reader(expression).whole()


def as_text(value: Fraction) -> str:
    """A whole number as it is, another one as a decimal, rounded after DECIMALS digits: 1/3 is "0.3333333333"."""
    if value.denominator == 1:
        return str(value.numerator)
    digits_before = len(str(abs(value.numerator) // value.denominator)) if abs(value) >= 1 else 0
    context = decimal.Context(prec=digits_before + DECIMALS)
    quotient = context.divide(decimal.Decimal(value.numerator), decimal.Decimal(value.denominator))
    text = format(quotient, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class _Reader:
    """The expression's tokens and a place among them; each method reads one rule from there and returns its value."""

    def __init__(self, expression: str):
        self.tokens = _cut(expression)
        self.place = 0
        self.depth = 0

    def whole(self) -> Fraction:
        value = self.expression()
        if self.next():
            raise CalculatorError(f"{self.next()!r} where an operator or the end belongs")
        return value

    def next(self) -> str:
        """The next token, "" at the end; it stays there."""
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token if it is one of these, and step over it; else ""."""
        token = self.next()
        if not token or token not in wanted:
            return ""
        self.place += 1
        return token

    def expression(self) -> Fraction:
        value = self.term()
        while sign := self.take("+", "-"):
            right = self.term()
            value = _bounded(value + right if sign == "+" else value - right)
        return value

    def term(self) -> Fraction:
        value = self.factor()
        while sign := self.take("*", "/", "//", "%"):
            value = _bounded(_product(value, sign, self.factor()))
        return value

    def factor(self) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise CalculatorError(f"nested more than {MAX_DEPTH} deep")
        sign = self.take("+", "-")
        value = self.factor() if sign else self.power()
        self.depth -= 1
        return -value if sign == "-" else value

    def power(self) -> Fraction:
        base = self.atom()
        return _power(base, self.factor()) if self.take("**") else base

    def atom(self) -> Fraction:
        token = self.next()
        self.place += 1
        if token == "(":
            value = self.expression()
            if not self.take(")"):
                raise CalculatorError("a parenthesis is not closed")
            return value
        if not token or token[0] not in ".0123456789":
            raise CalculatorError(f"{token!r} where a number belongs" if token else "ends where a number belongs")
        return _bounded(Fraction(token))


def _cut(expression: str) -> list[str]:
    """The tokens: numbers, operators, parentheses."""
    tokens = []
    place, end = 0, len(expression.rstrip())
    while place < end:
        match = _TOKEN.match(expression, place)
        if not match:
            raise CalculatorError(f"{expression[place:].strip()[0]!r} is not part of arithmetic")
        tokens.append(match[1] or match[2])
        place = match.end()
    if not tokens:
        raise CalculatorError("nothing to calculate")
    return tokens


def _product(left: Fraction, sign: str, right: Fraction) -> Fraction:
    if sign == "*":
        return left * right
    if right == 0:
        raise CalculatorError("division by zero")
    if sign == "/":
        return left / right
    return Fraction(left // right) if sign == "//" else left % right


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """base ** exponent for whole exponents; its size is estimated first."""
    if exponent.denominator != 1:
        raise CalculatorError("an exponent that is not a whole number")
    if base == 0 and exponent < 0:
        raise CalculatorError("division by zero")
    bits = max(abs(base.numerator), base.denominator).bit_length() - 1  # the larger part is at least 2**bits
    if bits * abs(exponent.numerator) > 4 * MAX_DIGITS:  # a digit is 3.3 bits
        raise CalculatorError("the result is too large")
    if abs(base) in (0, 1):  # however large the exponent, no work
        return base if exponent % 2 else Fraction(base != 0 or exponent == 0)
    return _bounded(base ** int(exponent))


def _bounded(value: Fraction) -> Fraction:
    """The value; CalculatorError if its fraction has more than MAX_DIGITS digits above or below the line."""
    if max(abs(value.numerator), value.denominator) >= 10**MAX_DIGITS:
        raise CalculatorError("the result is too large")
    return value
