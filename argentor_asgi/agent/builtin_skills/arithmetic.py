"""Arithmetic that always ends soon: integers are exact up to 4,096 bits, floats are IEEE 754 doubles, both finite.

An integer divided by one of its divisors stays an integer. Whatever has no result is a `SkillRefused` in words.
"""

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import TypeAlias

from argentor_asgi.agent.skills import SkillRefused

Number: TypeAlias = int | float

RESULT_BITS = 4096
"""The longest integer, as a result or on the way to one."""
FACTORIAL_MAX = 500
"""The largest number whose factorial is computed; it has 3,768 bits."""
PRIME_MAX = 2**64
"""The largest number that is tested for being prime: the proven range of the test."""
VALUES = 10_000
"""How many numbers a mean, median, minimum or maximum takes."""
_DIGITS = 300
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def applied(function: Callable[..., Number], *operands: Number) -> Number:
    """Return the result of one operation, within bounds. Raises `SkillRefused` when it has none, or too large a one."""
    try:
        for operand in operands:
            settled(operand)
        return settled(function(*operands))
    except ZeroDivisionError:
        raise SkillRefused("Division by zero has no result.") from None
    except OverflowError:
        raise SkillRefused("The result is too large.") from None


def settled(number: Number) -> Number:
    """Return `number`; raises `SkillRefused` when it is not finite or longer than `RESULT_BITS`."""
    if isinstance(number, float):
        if not math.isfinite(number):
            raise SkillRefused("The result is too large.")
    elif number.bit_length() > RESULT_BITS:
        raise SkillRefused(f"The number is too large: integers have at most {RESULT_BITS} bits.")
    return number


def add(a: Number, b: Number) -> Number:
    """Return a + b."""
    return a + b


def subtract(a: Number, b: Number) -> Number:
    """Return a - b."""
    return a - b


def multiply(a: Number, b: Number) -> Number:
    """Return a * b."""
    return a * b


def divide(a: Number, b: Number) -> Number:
    """Return a / b: an integer when both are and it comes out even."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


def modulo(a: Number, b: Number) -> Number:
    """Return a - b * floor(a / b): the result has the sign of b."""
    return a % b


def power(base: Number, exponent: Number) -> Number:
    """Return base to the exponent, exact for integers; refuses what would be too long before computing it."""
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if (abs(base).bit_length() - 1) * exponent > RESULT_BITS:
            raise SkillRefused(f"The result is too large: integers have at most {RESULT_BITS} bits.")
        return int(base**exponent)
    found: object = float(base) ** float(exponent)
    if not isinstance(found, float):
        raise SkillRefused("A negative number has no real root of that kind.")
    return found


def sqrt(value: Number) -> Number:
    """Return the square root; that of a square integer is an integer."""
    if value < 0:
        raise SkillRefused("A negative number has no real square root.")
    if isinstance(value, int) and (root := math.isqrt(value)) ** 2 == value:
        return root
    return math.sqrt(value)


def cbrt(value: Number) -> Number:
    """Return the cube root, of the same sign; that of a cube integer is an integer."""
    root = math.cbrt(value)
    if isinstance(value, int) and (near := round(root)) ** 3 == value:
        return near
    return root


def rounded(value: Number, n: Number = 0) -> Number:
    """Return `value` to `n` decimals, half away from zero in decimal notation: 2.5 is 3, 2.675 to 2 is 2.68."""
    digits = whole(n)
    if abs(digits) > _DIGITS:
        raise SkillRefused(f"round takes at most {_DIGITS} digits.")
    if isinstance(value, int) and digits >= 0:
        return value
    with localcontext() as exact:
        exact.prec = 2 * RESULT_BITS
        found = Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    return int(found) if digits <= 0 else float(found)


def logarithm(value: Number, base: Number) -> Number:
    """Return the logarithm of `value` to `base`, correctly rounded for the bases 2 and 10."""
    _positive(value, base)
    if base == 1:
        raise SkillRefused("There is no logarithm to the base 1.")
    by_base = {2: math.log2, 10: math.log10}
    return by_base[int(base)](value) if base in by_base else math.log(value) / math.log(base)


def ln(value: Number) -> Number:
    """Return the natural logarithm."""
    _positive(value)
    return math.log(value)


def log10(value: Number) -> Number:
    """Return the logarithm to the base 10."""
    _positive(value)
    return math.log10(value)


def factorial(n: Number) -> Number:
    """Return n!, for 0 <= n <= `FACTORIAL_MAX`."""
    number = whole(n)
    if not 0 <= number <= FACTORIAL_MAX:
        raise SkillRefused(f"factorial takes a whole number from 0 to {FACTORIAL_MAX}.")
    return math.factorial(number)


def is_prime(n: Number) -> bool:
    """Say whether n is prime: Miller-Rabin with the first 12 primes, which is proven for n <= 2^64."""
    number = whole(n)
    if number > PRIME_MAX:
        raise SkillRefused("is_prime takes numbers up to 2^64.")
    if number < _WITNESSES[-1] + 1:
        return number in _WITNESSES
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    return all(number % witness and _passes(number, witness, twos) for witness in _WITNESSES)


def mean(*values: Number) -> Number:
    """Return the arithmetic mean."""
    numbers = _some(values)
    total = sum(numbers) if all(isinstance(number, int) for number in numbers) else math.fsum(numbers)
    return divide(total, len(numbers))


def median(*values: Number) -> Number:
    """Return the middle one of the values in order, or the mean of the two in the middle."""
    numbers = sorted(_some(values))
    half = len(numbers) // 2
    return numbers[half] if len(numbers) % 2 else mean(numbers[half - 1], numbers[half])


def smallest(*values: Number) -> Number:
    """Return the smallest value."""
    return min(_some(values))


def largest(*values: Number) -> Number:
    """Return the largest value."""
    return max(_some(values))


def whole(number: Number) -> int:
    """Return `number` as an integer; raises `SkillRefused` when it is none."""
    if isinstance(number, float):
        raise SkillRefused(f"{number:g} is not an integer.")
    return number


def _passes(number: int, witness: int, twos: int) -> bool:
    """Say whether `number`, odd, looks prime to `witness`; `twos`: how often 2 divides number - 1."""
    found = pow(witness, (number - 1) >> twos, number)
    if found in (1, number - 1):
        return True
    for _ in range(twos - 1):
        found = found * found % number
        if found == number - 1:
            return True
    return False


def _positive(*numbers: Number) -> None:
    if min(numbers) <= 0:
        raise SkillRefused("A logarithm needs positive numbers.")


def _some(values: Sequence[Number]) -> Sequence[Number]:
    if not 1 <= len(values) <= VALUES:
        raise SkillRefused(f"Give 1 to {VALUES} values.")
    return values
