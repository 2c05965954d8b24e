"""The skill `csv_processor`: tables in and out as CSV (RFC 4180), the first row being the header.

What goes out cannot run in a spreadsheet: a cell that starts like a formula gets an apostrophe before it, unless it is
a plain number (OWASP, CSV injection).
"""

import io
import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias

from argentor_asgi.agent.builtin_skills.arithmetic import Number, rounded
from argentor_asgi.agent.builtin_skills.comparing import Comparison, Order, compares, sort_key
from argentor_asgi.agent.builtin_skills.operations import Operations, perform, present, refuse_longer
from argentor_asgi.agent.skills import SkillRefused, skill
from argentor_asgi.errors import GatewayError
from argentor_asgi.protocol.schema import JsonObject, JsonValue, Meta, decode_value

DATA_BYTES = 1024 * 1024
"""The most data, in UTF-8."""
CELLS = 1024 * 1024
"""How many cells a table has at most."""

Operation = Literal[
    "parse", "to_json", "from_json", "select_columns", "filter", "sort", "statistics", "count_rows", "headers",
]  # fmt: skip
Row: TypeAlias = list[str]
Table: TypeAlias = tuple[Row, list[Row]]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_DECIMALS = 10


@skill(
    "csv_processor",
    "Works on CSV text with a header row: parse, to_json, from_json, select_columns, filter, sort, statistics of a "
    "column, count_rows, headers.",
    thread=True,
)
def csv_processor(
    *,
    operation: Annotated[Operation, Meta(description="What to do.")],
    data: Annotated[JsonValue, Meta(description="The CSV text; for from_json an array of objects, or its JSON text.")],
    column: Annotated[str | None, Meta(description="Column of filter, sort, statistics.")] = None,
    columns: Annotated[list[str] | None, Meta(description="Columns of select_columns, in order.")] = None,
    op: Annotated[Comparison, Meta(description="How filter compares; numbers as numbers.")] = "eq",
    value: Annotated[str | int | float | None, Meta(description="What filter compares with.")] = None,
    order: Annotated[Order, Meta(description="The direction of sort.")] = "asc",
    delimiter: Annotated[str, Meta(min_length=1, max_length=1, description="Between cells.")] = ",",
) -> JsonObject:
    """Return what the operation makes; tables as `headers`, `rows` (lists of text), `row_count` and `csv`."""
    if delimiter in '"\r\n':
        raise SkillRefused("The delimiter cannot be a quote or a line end.")
    given = present(column=column, columns=columns, op=op, value=value, order=order, delimiter=delimiter)
    source = {"records": _records(data)} if operation == "from_json" else {"table": _table(data, delimiter)}
    return dict(perform(_OPERATIONS, operation, {**given, **source}))


def _parse(table: Table) -> JsonObject:
    headers, rows = table
    return {"headers": headers, "rows": rows, "row_count": len(rows)}


def _to_json(table: Table) -> JsonObject:
    headers, rows = table
    if len(set(headers)) < len(headers):
        raise SkillRefused("Two columns have the same name; objects cannot have both.")
    return {"result": [dict(zip(headers, row, strict=True)) for row in rows], "row_count": len(rows)}


def _from_json(records: list[JsonObject], delimiter: str) -> JsonObject:
    headers = list(dict.fromkeys(name for record in records for name in record))
    _refuse_larger(len(headers), len(records))
    rows = [[_cell(record.get(name)) for name in headers] for record in records]
    return {"result": written(headers, rows, delimiter), "headers": headers, "row_count": len(rows)}


def _select(table: Table, columns: list[str], delimiter: str) -> JsonObject:
    _refuse_larger(len(columns), len(table[1]))
    chosen = [_position(table, name) for name in columns]
    return _shown(([table[0][at] for at in chosen], [[row[at] for at in chosen] for row in table[1]]), delimiter)


def _filter(table: Table, column: str, op: str, value: JsonValue, delimiter: str) -> JsonObject:
    at = _position(table, column)
    wanted = _number(value)
    kept = [row for row in table[1] if _fits(row[at], op, value, wanted)]
    return _shown((table[0], kept), delimiter)


def _sort(table: Table, column: str, order: str, delimiter: str) -> JsonObject:
    """Return the rows in order: cells that are numbers first and as numbers, then the others as text."""
    at = _position(table, column)
    keys = [_number(row[at]) for row in table[1]]
    ordered = sorted(
        zip(keys, table[1], strict=True),
        key=lambda pair: sort_key(pair[1][at] if pair[0] is None else pair[0]),
        reverse=order == "desc",
    )
    return _shown((table[0], [row for _, row in ordered]), delimiter)


def _statistics(table: Table, column: str) -> JsonObject:
    """Return count, sum, mean, median, min, max and sample standard deviation of the cells that are numbers."""
    at = _position(table, column)
    numbers = sorted(number for number in (_number(row[at]) for row in table[1]) if number is not None)
    if not numbers:
        raise SkillRefused(f"The column {column!r} has no numbers.")
    try:
        found = _measures(numbers)
    except OverflowError:
        raise SkillRefused("The numbers are too large.") from None
    return {"column": column, "count": len(numbers), "skipped": len(table[1]) - len(numbers), **found}


def _count_rows(table: Table) -> JsonObject:
    return {"result": len(table[1]), "row_count": len(table[1])}


def _headers(table: Table) -> JsonObject:
    return {"result": table[0], "headers": table[0]}


_OPERATIONS: Operations = {
    "parse": _parse,
    "to_json": _to_json,
    "from_json": _from_json,
    "select_columns": _select,
    "filter": _filter,
    "sort": _sort,
    "statistics": _statistics,
    "count_rows": _count_rows,
    "headers": _headers,
}


def written(headers: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str) -> str:
    """Return a table as CSV text, lines ending in CRLF (RFC 4180 section 2), formula-like cells made harmless."""
    import csv  # noqa: PLC0415  few calls need it

    target = io.StringIO()
    writer = csv.writer(target, delimiter=delimiter)
    writer.writerow([_harmless(cell) for cell in headers])
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return target.getvalue()


def _table(data: JsonValue, delimiter: str) -> Table:
    """Return header and rows; short rows are filled with empty cells, longer ones and blank data refused."""
    import csv  # noqa: PLC0415  few calls need it

    if not isinstance(data, str):
        raise SkillRefused("data has to be CSV text.")
    refuse_longer(data, DATA_BYTES, "data")
    try:
        lines = [
            row for row in csv.reader(io.StringIO(data.removeprefix("\ufeff"), newline=""), delimiter=delimiter) if row
        ]
    except csv.Error as error:
        raise SkillRefused(f"data is not CSV: {error}.") from None
    if not lines:
        raise SkillRefused("data has no header row.")
    headers, rows = lines[0], lines[1:]
    _refuse_larger(len(headers), len(rows))
    if long := next((at for at, row in enumerate(rows, 1) if len(row) > len(headers)), None):
        raise SkillRefused(f"Row {long} has {len(rows[long - 1])} cells, the header has {len(headers)}.")
    return headers, [row + [""] * (len(headers) - len(row)) for row in rows]


def _records(data: JsonValue) -> list[JsonObject]:
    if isinstance(data, str):
        refuse_longer(data, DATA_BYTES, "data")
        try:
            data = decode_value(data.encode("utf-8", "replace"))
        except GatewayError as error:
            raise SkillRefused(f"data cannot be read: {error.message}") from None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise SkillRefused("from_json needs an array of objects.")
    return data


def _measures(numbers: list[float]) -> dict[str, Number]:
    """Return what is known of `numbers`, sorted and at least one, to ten decimals. Raises `OverflowError`."""
    count, half = len(numbers), len(numbers) // 2
    total = math.fsum(numbers)
    mean = total / count
    found = {
        "sum": total,
        "mean": mean,
        "median": numbers[half] if count % 2 else (numbers[half - 1] + numbers[half]) / 2,
        "min": numbers[0],
        "max": numbers[-1],
        "stdev": math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / max(1, count - 1)),
    }
    return {name: rounded(number, _DECIMALS) for name, number in found.items()}


def _refuse_larger(columns: int, rows: int) -> None:
    """Raise `SkillRefused` for more than `CELLS`: short rows are filled up, so little text can be a large table."""
    if columns * rows > CELLS:
        raise SkillRefused(f"The table is too large: it may have {CELLS} cells, empty ones too.")


def _shown(table: Table, delimiter: str) -> JsonObject:
    return {**_parse(table), "csv": written(*table, delimiter)}


def _position(table: Table, column: str) -> int:
    if column not in table[0]:
        raise SkillRefused(f"There is no column {column[:100]!r}; the columns are: {', '.join(table[0])[:1000]}.")
    return table[0].index(column)


def _fits(cell: str, op: str, value: JsonValue, wanted: float | None) -> bool:
    """Say whether the cell compares so with `value`, of which `wanted` is the number; a text is not below a number."""
    if wanted is None or op == "contains":
        return compares(cell, op, str(value))
    number = _number(cell)
    return compares(cell if number is None else number, op, wanted)


def _number(cell: JsonValue) -> float | None:
    """Return the number that a cell holds, None when it holds none."""
    try:
        found = float(cell)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and "_" not in str(cell) else None


def _cell(value: JsonValue) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        import json  # noqa: PLC0415  nested values are rare

        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) and _number(cell) is None else cell
