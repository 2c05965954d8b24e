import math
import statistics
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills import arithmetic
from argentor_asgi.agent.builtin_skills.arithmetic import FACTORIAL_MAX, PRIME_MAX, RESULT_BITS, VALUES
from argentor_asgi.agent.builtin_skills.calculator import OPERATIONS, Operation, calculator
from argentor_asgi.agent.builtin_skills.expression import EXPRESSION_CHARS, EXPRESSION_DEPTH, evaluate
from argentor_asgi.agent.skills import SkillRefused

integers = st.integers(-(10**12), 10**12)
floats = st.floats(-1e9, 1e9)


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"operation": "add", "a": 2, "b": 3}, 5),
        ({"operation": "add", "a": 0.1, "b": 0.2}, 0.30000000000000004),
        ({"operation": "subtract", "a": 2, "b": 3}, -1),
        ({"operation": "multiply", "a": 2**70, "b": 3}, 3 * 2**70),
        ({"operation": "divide", "a": 20, "b": 5}, 4),
        ({"operation": "divide", "a": 7, "b": 2}, 3.5),
        ({"operation": "modulo", "a": -7, "b": 3}, 2),
        ({"operation": "power", "base": 2, "exponent": 100}, 2**100),
        ({"operation": "power", "base": 2, "exponent": -1}, 0.5),
        ({"operation": "sqrt", "value": 10**40}, 10**20),
        ({"operation": "sqrt", "value": 2}, math.sqrt(2)),
        ({"operation": "cbrt", "value": -27}, -3),
        ({"operation": "abs", "value": -3.5}, 3.5),
        ({"operation": "ceil", "value": 1.2}, 2),
        ({"operation": "floor", "value": -1.2}, -2),
        ({"operation": "round", "value": 2.5}, 3),
        ({"operation": "round", "value": -2.5}, -3),
        ({"operation": "round", "value": 2.675, "n": 2}, 2.68),
        ({"operation": "round", "value": 1250, "n": -2}, 1300),
        ({"operation": "ln", "value": math.e}, 1.0),
        ({"operation": "log10", "value": 1000}, 3.0),
        ({"operation": "log", "value": 8, "base": 2}, 3.0),
        ({"operation": "sin", "value": 0}, 0.0),
        ({"operation": "cos", "value": 0}, 1.0),
        ({"operation": "tan", "value": 0}, 0.0),
        ({"operation": "factorial", "n": 20}, math.factorial(20)),
        ({"operation": "is_prime", "n": 97}, True),
        ({"operation": "min", "values": [3, 1.5, 2]}, 1.5),
        ({"operation": "max", "values": [3, 1.5, 2]}, 3),
        ({"operation": "mean", "values": [1, 2, 3]}, 2),
        ({"operation": "median", "values": [4, 1, 2, 3]}, 2.5),
        ({"operation": "evaluate", "expression": "17*23"}, 391),
    ],
)
async def test_every_operation_computes(arguments: dict[str, object], result: object) -> None:
    assert await answer(calculator, **arguments) == {"result": result}


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(OPERATIONS)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2^3^2", 512),
        ("2**3**2", 512),
        ("2^-1", 0.5),
        ("--2", 2),
        ("+3", 3),
        ("15% of 240", 36),
        ("15% of 240 + 3", 39),
        ("15%", 0.15),
        ("50% - 3", -2.5),
        ("(10+5)% of (100+100)", 30),
        ("10 % 3", 1),
        ("10%3", 1),
        ("10 % (-3)", -2),
        ("10 % abs(-3)", 1),
        ("100%*2", 2),
        ("(12+8)/5", 4),
        ("7/2", 3.5),
        ("10-4-3", 3),
        ("100/10/5", 2),
        ("2+3*4", 14),
        ("1.5e3", 1500.0),
        (".5*4", 2.0),
        ("SQRT(16)", 4),
        ("sqrt(2)", math.sqrt(2)),
        ("cbrt(27)+abs(-1)+ceil(0.5)+floor(1.5)", 6),
        ("round(2.675, 2)", 2.68),
        ("ln(e)+log10(10)+log(8,2)", 5.0),
        ("sin(0)+cos(0)+tan(0)", 1.0),
        ("min(3,1,2)+max(3,1,2)", 4),
        ("mean(1,2,3)+median(1,2,9)", 4),
        ("cbrt(2)", math.cbrt(2)),
        ("cbrt(2.5)", math.cbrt(2.5)),
        ("round(7, 2)", 7),
        ("factorial(5)", 120),
        ("is_prime(7)", True),
        ("pi", math.pi),
        (" 1\t+\n1 ", 2),
        ("2^4095", 2**4095),
    ],
)
def test_an_expression_follows_the_usual_precedence(expression: str, result: object) -> None:
    # agent.md 1.10 D27
    assert evaluate(expression) == result
    assert type(evaluate(expression)) is type(result)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "too early"),
        ("1+", "too early"),
        ("1 2", "operator is missing"),
        ("2(3)", "operator is missing"),
        ("(1", "too early"),
        ("(1,2)", "bracket"),
        ("1)", "operator is missing"),
        ("10/0", "Division by zero"),
        ("10%0", "Division by zero"),
        ("0^-1", "Division by zero"),
        ("1e999", "too large"),
        ("1e308*10", "too large"),
        ("9^9^9", "too large"),
        ("9.0^9^9", "too large"),
        ("2^4096", "too large"),
        ("(2^4000)*(2^4000)", "too large"),
        ("factorial(501)", "500"),
        ("factorial(2.5)", "not an integer"),
        ("sqrt(-1)", "square root"),
        ("(-8)^0.5", "real root"),
        ("ln(0)", "positive"),
        ("log(5,1)", "base 1"),
        ("foo(1)", "foo"),
        ("sqrt 4", "brackets"),
        ("sqrt(1,2)", "arguments"),
        ("min()", "cannot stand"),
        ("round(1, 400)", "digits"),
        ("__import__('os')", "__import__"),
        ("1;2", "';'"),
        ("1 of 2", "'of'"),
        ("*3", "cannot stand"),
        ("9" * 2000, "too large"),
        ("1" * 5000, "too long"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_words(expression: str, words: str) -> None:
    with pytest.raises(SkillRefused) as refused:
        evaluate(expression)
    assert words in refused.value.message


async def test_a_refusal_reaches_the_caller_as_an_error_output() -> None:
    assert "Division by zero" in await refusal(calculator, operation="divide", a=1, b=0)
    assert "log also needs: base" in await refusal(calculator, operation="log", value=1)
    assert "also needs: a, b" in await refusal(calculator, operation="add")
    assert "/operation" in await refusal(calculator, operation="integrate")
    assert "/nope" in await refusal(calculator, operation="abs", nope=1)
    assert "/a" in await refusal(calculator, operation="add", a=True, b=1)


@pytest.mark.parametrize("level", ["(", "-", "sqrt(", "1^", "1+2*("])
def test_an_expression_nests_to_the_bound_and_no_deeper(level: str) -> None:
    # agent.md 1.10 D27
    def nested(depth: int) -> str:
        return level * depth + "1" + ")" * (level.count("(") * depth)

    evaluate(nested(EXPRESSION_DEPTH))
    with pytest.raises(SkillRefused, match="deeper than 64"):
        evaluate(nested(EXPRESSION_DEPTH + 1))


def test_a_long_flat_expression_is_no_nesting() -> None:
    assert evaluate("+".join("1" * 1000)) == 1000


def test_the_caps_hold_at_their_bounds() -> None:
    assert evaluate("1" + " " * (EXPRESSION_CHARS - 1)) == 1
    with pytest.raises(SkillRefused):
        evaluate("1" + " " * EXPRESSION_CHARS)
    assert arithmetic.settled(2**RESULT_BITS - 1) == 2**RESULT_BITS - 1
    with pytest.raises(SkillRefused):
        arithmetic.settled(2**RESULT_BITS)
    assert arithmetic.factorial(FACTORIAL_MAX) == math.factorial(FACTORIAL_MAX)
    assert arithmetic.is_prime(PRIME_MAX - 59)
    assert not arithmetic.is_prime(PRIME_MAX)
    with pytest.raises(SkillRefused):
        arithmetic.is_prime(PRIME_MAX + 1)
    assert arithmetic.mean(*range(VALUES)) == (VALUES - 1) / 2
    with pytest.raises(SkillRefused):
        arithmetic.mean(*range(VALUES + 1))
    with pytest.raises(SkillRefused):
        arithmetic.mean()


async def test_a_huge_argument_is_refused_before_it_is_used() -> None:
    assert "too large" in await refusal(calculator, operation="add", a=2**RESULT_BITS, b=1)
    assert "too large" in await refusal(calculator, operation="power", base=3, exponent=10**18)
    assert "too large" in await refusal(calculator, operation="add", a=2**4000, b=0.5)


@given(integers, integers)
def test_integers_are_exact(a: int, b: int) -> None:
    assert evaluate(f"({a})*({b})-({a})+({b})") == a * b - a + b
    if b:
        assert evaluate(f"({a})%({b})") == a % b
        assert evaluate(f"({a})/({b})") == (a // b if a % b == 0 else a / b)
        assert Fraction(evaluate(f"(({a})*({b}))/({b})")) == a


@given(floats, floats)
def test_floats_are_those_of_the_machine(a: float, b: float) -> None:
    assert evaluate(f"({a!r})+({b!r})*({a!r})") == a + b * a


@given(st.integers(-50, 50), st.integers(0, 40))
def test_powers_agree_with_python(base: int, exponent: int) -> None:
    assert evaluate(f"({base})^{exponent}") == base**exponent
    assert evaluate(f"-{abs(base)}^{exponent}") == -(abs(base) ** exponent)


@given(st.lists(integers | floats, min_size=1, max_size=20))
def test_statistics_agree_with_the_library(values: list[float]) -> None:
    assert arithmetic.mean(*values) == pytest.approx(statistics.fmean(values))
    assert arithmetic.median(*values) == pytest.approx(statistics.median(values))
    assert (arithmetic.smallest(*values), arithmetic.largest(*values)) == (min(values), max(values))


@given(st.integers(-10, 20_000))
def test_primes_agree_with_trial_division(number: int) -> None:
    divided = number > 1 and all(number % divisor for divisor in range(2, math.isqrt(max(number, 0)) + 1))
    assert arithmetic.is_prime(number) == divided


@pytest.mark.parametrize("pseudoprime", [561, 2047, 1373653, 25326001, 3215031751, 341550071728321])
def test_strong_pseudoprimes_are_seen_through(pseudoprime: int) -> None:
    assert not arithmetic.is_prime(pseudoprime)


@given(st.floats(1e-6, 1e9), st.floats(1.5, 100))
def test_logarithms_undo_powers(value: float, base: float) -> None:
    found = arithmetic.logarithm(value, base)
    assume(abs(found) > 1e-3)
    assert math.pow(base, found) == pytest.approx(value, rel=1e-6)


@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
def test_rounding_is_half_away_from_zero_in_decimal(number: int, decimals: int) -> None:
    exact = Fraction(number, 10**decimals)
    up = math.floor(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    assume(len(str(abs(number))) <= 15)
    assert arithmetic.rounded(number / 10**decimals) == up


@given(st.text("0123456789.+-*/%^()e of,pisqrtmn", max_size=60))
def test_any_text_has_a_value_or_is_refused(text: str) -> None:
    try:
        value = evaluate(text)
    except SkillRefused:
        return
    assert math.isfinite(value) if isinstance(value, float) else value.bit_length() <= RESULT_BITS
