"""The bodies that each wire makes, byte for byte: `tests/wire_cases.py` and `tests/goldens`."""

import json

import pytest
from wire_cases import CASES, GOLDENS, MODELS, golden

from argentor_asgi.protocol.schema import encode
from argentor_asgi.protocol.wires import WIRES


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wire", WIRES)
def test_a_request_is_sent_as_its_golden_says(wire, case):
    fields = {"openai": "max_completion_tokens"}
    body = WIRES[wire].body(CASES[case], MODELS[wire], tokens_field=fields.get(wire, "max_tokens"))
    path = GOLDENS / f"{wire}_{case}.json"
    if not path.exists():
        path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
        pytest.fail(f"{path.name} was missing; read what was written there")
    assert encode(body) == golden(wire, case)


def test_there_is_no_golden_that_nothing_is_compared_with():
    known = {f"{wire}_{case}.json" for wire in WIRES for case in CASES}
    assert {path.name for path in GOLDENS.iterdir() if path.name.split("_")[0] in WIRES} == known
