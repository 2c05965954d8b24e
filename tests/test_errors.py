"""Every refusal: its status, its code and its words are public."""

import inspect
import re
from http import HTTPStatus

import pytest

from argentor_asgi import errors
from argentor_asgi.errors import Detail, GatewayError, Internal, SessionBusy, by_code, every_error

EVERY = list(every_error())


def test_every_class_of_the_module_is_listed_once():
    declared = [
        found
        for found in vars(errors).values()
        if inspect.isclass(found) and issubclass(found, GatewayError) and found is not GatewayError
    ]
    assert sorted(found.__name__ for found in EVERY if found.__module__ == errors.__name__) == sorted(
        found.__name__ for found in declared
    )


def test_every_code_is_unique():
    codes = [found.code for found in EVERY]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("found", EVERY)
def test_an_error_is_declared_in_full(found):
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", found.code)
    assert 400 <= HTTPStatus(found.status) < 600
    assert "__doc__" in vars(found)
    assert found.__doc__.rstrip().endswith(".")
    assert found.message.strip()
    assert found.error is None or found.error.strip()


@pytest.mark.parametrize("found", EVERY)
def test_an_error_can_be_raised_without_words_and_is_found_by_its_code(found):
    error = found()
    assert (error.message, str(error)) == (found.message, found.message)
    assert (error.details, error.retry_after, error.headers) == ((), None, ())
    assert by_code(found.code) is found


def test_an_unknown_code_is_a_failure_of_ours():
    assert by_code("no_such_code") is Internal
    assert by_code("") is Internal


def test_words_details_and_hints_travel_with_the_error():
    error = SessionBusy(
        "Wait.", details=[Detail("/a", "bad")], retry_after=3, headers=[(b"x-a", b"1")], members={"run_id": "r"}
    )
    assert str(error) == error.message == "Wait."
    assert error.details == (Detail("/a", "bad"),)
    assert error.retry_after == 3
    assert error.headers == ((b"x-a", b"1"),)
    assert error.members == {"run_id": "r"}
    assert SessionBusy.message != "Wait."


def test_what_may_be_tried_again_is_never_the_callers_own_mistake():
    for found in EVERY:
        if found.retryable:
            assert found.status in {408, 409, 429} or found.status >= 500


def test_a_config_error_is_never_a_refusal():
    assert not issubclass(errors.ConfigError, GatewayError)
