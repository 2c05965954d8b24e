import csv
import io
import statistics
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skillcalls import answer, refusal

from argentor_asgi.agent.builtin_skills.csv_processor import (
    _OPERATIONS,
    CELLS,
    DATA_BYTES,
    Operation,
    _harmless,
    _measures,
    _table,
    csv_processor,
    written,
)

DATA = "name,age,city\nAnn,30,Paris\nBob,4,\nCy,x,Rome\n"


def test_the_operations_offered_are_the_operations_there_are() -> None:
    assert set(get_args(Operation)) == set(_OPERATIONS)


async def test_parse_headers_and_count() -> None:
    rows = [["Ann", "30", "Paris"], ["Bob", "4", ""], ["Cy", "x", "Rome"]]
    headers = ["name", "age", "city"]
    assert await answer(csv_processor, operation="parse", data=DATA) == {
        "headers": headers,
        "rows": rows,
        "row_count": 3,
    }
    assert (await answer(csv_processor, operation="headers", data=DATA))["headers"] == headers
    assert (await answer(csv_processor, operation="count_rows", data=DATA))["result"] == 3


async def test_to_json_and_back() -> None:
    got = await answer(csv_processor, operation="to_json", data="a;b\n1;x\n2\n", delimiter=";")
    assert got == {"result": [{"a": "1", "b": "x"}, {"a": "2", "b": ""}], "row_count": 2}
    back = await answer(csv_processor, operation="from_json", data=got["result"], delimiter=";")
    assert back["result"] == "a;b\r\n1;x\r\n2;\r\n"
    mixed = await answer(csv_processor, operation="from_json", data='[{"a":true,"b":null},{"c":[1],"a":1.5}]')
    assert mixed["result"] == "a,b,c\r\ntrue,,\r\n1.5,,[1]\r\n"


async def test_select_filter_and_sort_return_the_table_and_its_csv() -> None:
    got = await answer(csv_processor, operation="select_columns", data=DATA, columns=["city", "name"])
    assert got["csv"] == "city,name\r\nParis,Ann\r\n,Bob\r\nRome,Cy\r\n"
    older = await answer(csv_processor, operation="filter", data=DATA, column="age", op="gt", value=5)
    assert older["rows"] == [["Ann", "30", "Paris"]]
    same = await answer(csv_processor, operation="filter", data=DATA, column="age", value="4.0")
    assert same["rows"] == [["Bob", "4", ""]]
    within = await answer(csv_processor, operation="filter", data=DATA, column="city", op="contains", value="o")
    assert within["row_count"] == 1
    ordered = await answer(csv_processor, operation="sort", data=DATA, column="age")
    assert [row[1] for row in ordered["rows"]] == ["4", "30", "x"]
    turned = await answer(csv_processor, operation="sort", data=DATA, column="name", order="desc")
    assert [row[0] for row in turned["rows"]] == ["Cy", "Bob", "Ann"]


async def test_statistics_count_numbers_and_what_is_none() -> None:
    got = await answer(csv_processor, operation="statistics", data="n\n1\n2\n3\nx\n6\n", column="n")
    assert got == {
        "column": "n",
        "count": 4,
        "skipped": 1,
        "sum": 12.0,
        "mean": 3.0,
        "median": 2.5,
        "min": 1.0,
        "max": 6.0,
        "stdev": 2.1602468995,
    }


@pytest.mark.parametrize("cell", ["=1+1", "+cmd", "-cmd|x", "@SUM(A1)", "\t=1", "\r=1"])
async def test_a_cell_that_starts_like_a_formula_is_made_harmless(cell: str) -> None:
    got = await answer(csv_processor, operation="from_json", data=[{"a": cell}])
    assert next(csv.reader(io.StringIO(got["result"].partition("\r\n")[2], newline="")))[0] == "'" + cell


@pytest.mark.parametrize("cell", ["-5", "+1.5e3", "plain", ""])
def test_a_number_is_no_formula(cell: str) -> None:
    assert _harmless(cell) == cell


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"operation": "parse", "data": ""}, "no header"),
        ({"operation": "parse", "data": 5}, "CSV text"),
        ({"operation": "parse", "data": "a\n1,2\n"}, "Row 1 has 2 cells"),
        ({"operation": "parse", "data": "a\n" + "x" * 200_000}, "not CSV"),
        ({"operation": "parse", "data": "x" * (DATA_BYTES + 1)}, "too long"),
        ({"operation": "parse", "data": "a", "delimiter": "\n"}, "delimiter"),
        ({"operation": "parse", "data": "a", "delimiter": ",,"}, "/delimiter"),
        ({"operation": "to_json", "data": "a,a\n1,2"}, "same name"),
        ({"operation": "from_json", "data": [1]}, "array of objects"),
        ({"operation": "from_json", "data": "{"}, "cannot be read"),
        ({"operation": "select_columns", "data": DATA}, "also needs: columns"),
        ({"operation": "select_columns", "data": DATA, "columns": ["x"]}, "the columns are: name, age, city"),
        ({"operation": "filter", "data": DATA}, "also needs: column, value"),
        ({"operation": "statistics", "data": DATA, "column": "name"}, "no numbers"),
        ({"operation": "statistics", "data": "a\n1e308\n1e308\n-1e308", "column": "a"}, "too large"),
        ({"operation": "parse", "data": "a," * 2000 + "\n" + "1\n" * 1000}, "too large"),
        ({"operation": "from_json", "data": [{str(number): 1} for number in range(1100)]}, "too large"),
        ({"operation": "select_columns", "data": "a\n" + "1\n" * 1000, "columns": ["a"] * 1100}, "too large"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(arguments: dict[str, object], words: str) -> None:
    assert words in await refusal(csv_processor, **arguments)


def test_a_table_has_cells_up_to_the_bound() -> None:
    assert len(_table("a" + "," * 1023 + "\n" + "1\n" * (CELLS // 1024), ",")[1]) == CELLS // 1024


cells = st.text("ab1,;\"\n\r ='", max_size=5)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=2)))
def test_what_is_written_is_read_again_but_for_the_apostrophes(lines: list[list[str]]) -> None:
    text = written(lines[0], lines[1:], ",")
    safe = [[_harmless(cell) for cell in row] for row in lines]
    if all(any(cell for cell in row) for row in safe):
        assert _table(text, ",") == (safe[0], safe[1:])


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_measures_agree_with_the_library(numbers: list[float]) -> None:
    found = _measures(sorted(numbers))
    assert found["mean"] == pytest.approx(statistics.fmean(numbers), abs=1e-6)
    assert found["median"] == pytest.approx(statistics.median(numbers), abs=1e-6)
    assert found["stdev"] == pytest.approx(statistics.stdev(numbers), abs=1e-4)
