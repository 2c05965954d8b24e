"""The skill `calculator`: exact integers, IEEE 754 floats (0.1+0.2 is 0.30000000000000004), bounded work."""

import math
from typing import Annotated, Literal

from argentor_asgi.agent.builtin_skills import arithmetic
from argentor_asgi.agent.builtin_skills.arithmetic import Number, applied
from argentor_asgi.agent.builtin_skills.expression import evaluate
from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present
from argentor_asgi.agent.skills import skill
from argentor_asgi.protocol.schema import JsonObject, Meta

Operation = Literal[
    "add", "subtract", "multiply", "divide", "modulo", "power", "sqrt", "cbrt", "abs", "ceil", "floor", "round",
    "ln", "log10", "log", "sin", "cos", "tan", "factorial", "is_prime", "min", "max", "mean", "median", "evaluate",
]  # fmt: skip

OPERATIONS: Operations = {
    "add": lambda a, b: applied(arithmetic.add, a, b),
    "subtract": lambda a, b: applied(arithmetic.subtract, a, b),
    "multiply": lambda a, b: applied(arithmetic.multiply, a, b),
    "divide": lambda a, b: applied(arithmetic.divide, a, b),
    "modulo": lambda a, b: applied(arithmetic.modulo, a, b),
    "power": lambda base, exponent: applied(arithmetic.power, base, exponent),
    "sqrt": lambda value: applied(arithmetic.sqrt, value),
    "cbrt": lambda value: applied(arithmetic.cbrt, value),
    "abs": lambda value: applied(abs, value),
    "ceil": lambda value: applied(math.ceil, value),
    "floor": lambda value: applied(math.floor, value),
    "round": lambda value, n=0: applied(arithmetic.rounded, value, n),
    "ln": lambda value: applied(arithmetic.ln, value),
    "log10": lambda value: applied(arithmetic.log10, value),
    "log": lambda value, base: applied(arithmetic.logarithm, value, base),
    "sin": lambda value: applied(math.sin, value),
    "cos": lambda value: applied(math.cos, value),
    "tan": lambda value: applied(math.tan, value),
    "factorial": lambda n: applied(arithmetic.factorial, n),
    "is_prime": lambda n: applied(arithmetic.is_prime, n),
    "min": lambda values: applied(arithmetic.smallest, *values),
    "max": lambda values: applied(arithmetic.largest, *values),
    "mean": lambda values: applied(arithmetic.mean, *values),
    "median": lambda values: applied(arithmetic.median, *values),
    "evaluate": evaluate,
}


@skill(
    "calculator",
    "Computes: arithmetic, roots, logarithms, trigonometry in radians, primes, statistics, or a whole expression such "
    "as (12+8)/5, 2^10, 15% of 240, sqrt(2), max(1,2). Integers are exact.",
)
def calculator(
    *,
    operation: Annotated[Operation, Meta(description="What to compute; evaluate takes a whole expression.")],
    a: Annotated[Number | None, Meta(description="First number of add, subtract, multiply, divide, modulo.")] = None,
    b: Annotated[Number | None, Meta(description="Second number of add, subtract, multiply, divide, modulo.")] = None,
    base: Annotated[Number | None, Meta(description="Base of power and log.")] = None,
    exponent: Annotated[Number | None, Meta(description="Exponent of power.")] = None,
    value: Annotated[Number | None, Meta(description="Number of sqrt, abs, round, ln, log, sin and the like.")] = None,
    n: Annotated[int | None, Meta(description="Number of factorial and is_prime; decimals of round.")] = None,
    values: Annotated[list[Number] | None, Meta(description="Numbers of min, max, mean, median.")] = None,
    expression: Annotated[
        str | None, Meta(description="Expression of evaluate: + - * / % ^ ( ), names, pi, e.")
    ] = None,
) -> JsonObject:
    """Return `{"result": N}`; refuses in words what has no finite result or exceeds a bound."""
    given = present(
        a=a, b=b, base=base, exponent=exponent, value=value, n=n, values=values, expression=expression
    )  # fmt: skip
    return {"result": perform(OPERATIONS, operation, given)}
