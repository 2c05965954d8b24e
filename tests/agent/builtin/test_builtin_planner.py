"""The planner over whole conversations: goldens, steps, open questions, failures, and what holds for any history."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_talk import TOOLS, Failed, Talk, calling, message, result, tool

from argentor_asgi.agent.builtin.planner import INPUT_BYTES, PlannedCall, next_id, plan
from argentor_asgi.agent.builtin.steps import STEPS
from argentor_asgi.protocol.messages import Part

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
NOW = {
    "datetime": "2026-11-23T10:00:00Z",
    "date": "2026-11-23",
    "time": "10:00:00",
    "weekday": "Monday",
    "timezone": "UTC",
}
REX = {"results": [{"id": "1", "content": "my dog is called Rex", "created_at": "x", "score": 1.0}], "total": 1}
SCHEMA = {
    "type": "object",
    "required": ["input"],
    "properties": {"input": {"type": "string", "description": "Text."}, "op": {"enum": ["a", "b"]}},
}
NOTHING = {"results": [], "total": 0}


@pytest.mark.parametrize(
    ("text", "content", "answer"),
    [
        ("what is 17*23?", {"result": 391}, "17*23 = 391"),
        ("What's 15% of 240 plus 3?", {"result": 39}, "15% of 240 + 3 = 39"),
        ("sqrt(2) to 5 digits", {"result": 1.41421}, "round(sqrt(2), 5) = 1.41421"),
        ("0.1+0.2", {"result": 0.1 + 0.2}, "0.1+0.2 = 0.30000000000000004"),
        ("is 97 prime?", {"result": True}, "97 is prime."),
        ("¿es 98 primo?", {"result": False}, "98 no es primo."),
        ("5!", {"result": 120}, "5! = 120"),
        ("mean of 1, 2", {"result": 1.5}, "mean(1, 2) = 1.5"),
        ("what date is 45 days after 2026-11-22?", {"result": "2027-01-06"}, "45 days after 2026-11-22 is 2027-01-06."),
        ("1 día antes de 2026-11-22", {"result": "2026-11-21"}, "1 día antes de 2026-11-22 es 2026-11-21."),
        ("what time is it?", NOW, "It is 10:00:00 on Monday 2026-11-23 in UTC."),
        ("¿qué hora es?", NOW, "Son las 10:00:00 del lunes 2026-11-23 en UTC."),
        (
            "days between 2026-11-22 and 2026-11-23",
            {"difference": 1, "unit": "days"},
            "Between 2026-11-22 and 2026-11-23: 1 day.",
        ),
        ("weekday of 2026-11-22", {"result": "Sunday"}, "2026-11-22 is a Sunday."),
        ("qué día de la semana es 2026-11-22", {"result": "Sunday"}, "2026-11-22 es domingo."),
        ("is 2023 a leap year?", {"result": False}, "2023 is not a leap year."),
        ("how many days in February 2024?", {"result": 29}, "2024-02 has 29 days."),
        ("sha256 of hello", {"hash": HELLO, "algorithm": "sha256"}, f"sha256 of hello: {HELLO}"),
        ("uppercase hello", {"result": "HELLO"}, "HELLO"),
        ("count words in a b", {"result": 2}, "2 words."),
        ("cuenta las palabras de hola", {"result": 1}, "1 palabra."),
        ("base64 of hello", {"result": "aGVsbG8=", "encoding": "base64"}, "aGVsbG8="),
        ("uuid", {"uuid": "u", "version": 4}, "u"),
        ("2 uuids", {"uuids": ["u", "v"]}, "u\nv"),
        (
            "is a@b a valid email?",
            {"valid": False, "format": "email", "details": {"reason": "no dot."}},
            "a@b: No, it is not a valid email (no dot).",
        ),
        ('get a from {"a":[1]}', {"result": [1]}, "[1]"),
        ('diff "a" and "a"', {"diff": "", "lines_added": 0, "lines_removed": 0}, "They are the same."),
        ('diff "a" and "b"', {"diff": "-a\n+b\n", "lines_added": 1, "lines_removed": 1}, "-a\n+b"),
        ("summarize: A. B.", {"summary": "A."}, "A."),
        ("keywords of a b", {"keywords": [{"word": "a", "count": 2}]}, "a (2)"),
        ("parse csv:\na,b\n1,2", {"headers": ["a", "b"], "rows": [["1", "2"]], "row_count": 1}, "a, b\n1, 2"),
        ("remember that I like tea", {"stored": True, "id": "1"}, "I will remember: I like tea."),
        ("what is my dog's name?", REX, "You told me: my dog is called Rex."),
        ("what is my dog called?", REX, "You told me: my dog is called Rex."),
        ("forget my dog", {"forgotten": 0}, "I remembered nothing like that."),
        ("olvida mi perro", {"forgotten": 1, "memories": [{"content": "x"}]}, "Olvidado: x."),
        ("list memories", {"memories": [{"content": "x"}], "total": 1}, "I remember:\n- x"),
        ("skills", {"skills": [{"name": "a", "description": "b"}], "total": 1}, "- a: b"),
        ('/tool json_query {"operation":"get","data":{"a":[1,2]},"path":"a.1"}', {"result": 2}, "2"),
    ],
)  # fmt: skip
def test_a_result_becomes_an_answer(text, content, answer):
    assert Talk().say(text, content) == answer


@pytest.mark.parametrize(
    ("text", "content", "answer"),
    [
        (
            "días entre 2026-11-22 y 2026-11-24",
            {"difference": 2, "unit": "days"},
            "Entre 2026-11-22 y 2026-11-24: 2 días.",
        ),
        ("¿es bisiesto 2024?", {"result": True}, "2024 es un año bisiesto."),
        ('type of {"a":1}', {"result": "object"}, "JSON of type object."),
        ('keys of {"a":1}', {"result": ["a"]}, "a"),
        (f"verify {HELLO} of hello", {"valid": True}, "It matches."),
        (f"verifica {HELLO} de hola", {"valid": False}, "No coincide."),
        (
            "decode jwt a.b.c",
            {"result": {"alg": "none"}, "verified": False},
            'result: {"alg":"none"}\nverified: false\nThe signature was not verified.',
        ),
        ("validate uuid x", {"valid": False}, "No, it is not a valid uuid."),
        ("cuántas filas hay en el csv:\na\n1", {"result": 1, "row_count": 1}, "1 filas."),
        ("headers of csv:\na,b\n1,2", {"result": ["a", "b"]}, "a, b"),
        ("sort csv by a:\na\n1", {"csv": "a\n1\n"}, "a\n1\n"),
        ("csv to json:\na\n1", {"result": [{"a": "1"}]}, '[{"a":"1"}]'),
        ("statistics of csv:\na\n1", {"mean": 1.0}, "mean: 1"),
        ("readability of a b", {"score": 2}, "score: 2"),
        ("recuerda que x", {"stored": False}, "No lo he podido guardar."),
        ("list memories", {"memories": [], "total": 0}, "I remember nothing."),
        ("lista mis recuerdos", {"memories": [{"content": "x"}], "total": 9}, "Recuerdo:\n- x\n… (9)"),
        ("what do you know about my dog?", {"results": [{"content": "a"}, {"content": "b"}]}, "You told me:\n- a\n- b"),
        (
            "help hash",
            {"skills": [{"name": "hash", "description": "Hashes.", "parameters_schema": SCHEMA}]},
            "hash: Hashes.\n- input* (string): Text.\n- op (a|b)",
        ),
        ("/tool calculator {}", [1, "a"], "- 1\n- a"),
        ("/tool calculator {}", "plain", "plain"),
        ("/tool calculator {}", "", "Done."),
        ("/tool calculator {}", {"result": [3]}, "- 3"),
        ('/tool calculator {"operation":"power","base":2,"exponent":3}', {"result": 8}, "power(2, 3) = 8"),
        ('/tool datetime {"operation":"format"}', {"result": "x"}, "x"),
    ],
)  # fmt: skip
def test_the_rarer_results_have_their_words_too(text, content, answer):
    assert Talk().say(text, content) == answer


def test_a_long_result_is_cut_with_its_length():
    assert Talk().say("uppercase a", {"result": "A" * 9000}).endswith("… [9000]")
    assert Talk().say("/tool diff {}", list(range(30))).endswith("… (30)")


def test_what_is_to_be_calculated_is_asked_for():
    talk = Talk()
    assert talk.say("calcula") == "¿Qué debo calcular?"
    talk.say("2 más 3", {"result": 5})
    assert talk.calls[0].arguments == {"operation": "evaluate", "expression": "2 + 3"}


def test_the_year_of_a_month_without_one_is_this_year():
    talk = Talk()
    talk.say("how many days in February?", NOW, {"result": 28})
    assert talk.calls[1].arguments == {"operation": "days_in_month", "year": 2026, "month": 2}


@pytest.mark.parametrize(
    ("text", "previous", "arguments"),
    [
        ("keys of it", {"result": {"a": 1}}, {"operation": "keys", "data": {"a": 1}}),
        ("mean of it", {"result": [1, 2]}, {"operation": "mean", "values": [1, 2]}),
        ("súmale 3", {"result": 4}, {"operation": "evaluate", "expression": "4 + 3"}),
        ("réstale 3", {"result": 4}, {"operation": "evaluate", "expression": "4 - 3"}),
        ("pásalo a mayúsculas", {"result": "a"}, {"operation": "uppercase", "text": "a"}),
        ("inviértelo", {"result": "ab"}, {"operation": "reverse", "text": "ab"}),
        ("codifícalo en base64", {"result": "a"}, {"operation": "base64_encode", "input": "a"}),
        ("convert it to hex", {"result": "a"}, {"operation": "hex_encode", "input": "a"}),
        ("weekday of it", {"result": "2026-11-22"}, {"operation": "day_of_week", "datetime": "2026-11-22"}),
        ("is it a leap year?", {"result": 2024}, {"operation": "is_leap_year", "year": 2024}),
        ("is it prime?", {"result": 7}, {"operation": "is_prime", "n": 7}),
        ("word count of it", {"memories": [{"content": "a b"}]}, {"operation": "word_count", "text": "a b"}),
        ("sha256 of it", {"other": 1}, {"operation": "sha256", "input": '{"other":1}'}),
        ('sha256 of "it"', {"result": 1}, {"operation": "sha256", "input": "it"}),
    ],
)
def test_a_word_for_the_result_stands_for_it_in_every_skill(text, previous, arguments):
    talk = Talk()
    talk.say("/tool diff {}", previous)
    talk.say(text, {"result": "x"})
    assert talk.calls[-1].arguments == arguments


def test_help_and_skills_need_no_skill_of_their_own():
    talk = Talk([tool("hash", "Hashes text.", input={"enum": ["x"]})])
    assert talk.say("skills") == "The skills on offer: `hash`."
    assert talk.say("help hash") == 'Hashes text. `hash(input="x")`'
    assert talk.say("describe nothing").startswith("I am")
    assert "Goodbye." in talk.say("bye")


def test_a_call_without_arguments_and_one_that_cannot_be_read():
    talk = Talk([tool("look", "Looks.", a={}, b=5)])
    talk.say("look()", {"ok": 1})
    assert talk.calls[-1].arguments == {}
    assert 'look(a="…", b="…")' in talk.say("look(1, 2)")


def test_steps_are_answered_in_order_and_a_failure_is_told_in_words():
    talk = Talk()
    answer = talk.say("-2^2 ; 0.1+0.2 ; 10/0", {"result": -4}, {"result": 0.3}, Failed("Division by zero."))
    assert answer == "-2^2 = -4\n0.1+0.2 = 0.3\ncalculator could not do that: Division by zero."


def test_a_later_step_uses_the_result_before_it():
    talk = Talk()
    answer = talk.say(
        "calculate (12+8)/5 and then sha256 of it", {"result": 4.0}, {"hash": "4b22", "algorithm": "sha256"}
    )
    assert [call.name for call in talk.calls] == ["calculator", "hash"]
    assert talk.calls[1].arguments == {"operation": "sha256", "input": "4"}
    assert answer == "(12+8)/5 = 4\nsha256 of 4: 4b22"


def test_the_spanish_words_for_the_result_work_too():
    talk = Talk()
    talk.say(
        "calcula 2-5 y luego multiplica lo anterior por 2 y después sha256 de el resultado",
        {"result": -3},
        {"result": -6},
        {"hash": "h"},
    )
    assert talk.calls[1].arguments == {"operation": "evaluate", "expression": "(-3) * 2"}
    assert talk.calls[2].arguments == {"operation": "sha256", "input": "-6"}


def test_the_result_of_the_message_before_can_be_used():
    talk = Talk()
    talk.say("6*7", {"result": 42})
    talk.say("double it", {"result": 84})
    assert talk.calls[-1].arguments == {"operation": "evaluate", "expression": "42 * 2"}


def test_a_step_that_needs_a_failed_result_is_left_out_and_the_rest_goes_on():
    talk = Talk()
    answer = talk.say("10/0 then sha256 of it; uppercase a", Failed("no"), {"result": "A"})
    assert "left the next step out" in answer
    assert answer.endswith("\nA")


def test_a_date_relative_to_today_looks_the_clock_up_first():
    talk = Talk()
    assert talk.say("45 days after today", NOW, {"result": "2027-01-07"}) == "45 days after 2026-11-23 is 2027-01-07."
    assert talk.calls[1].arguments == {"operation": "add", "datetime": "2026-11-23", "amount": 45, "unit": "days"}


def test_days_until_a_date_count_from_the_clock():
    talk = Talk()
    talk.say("how many days until 2026-12-25?", NOW, {"difference": 32, "unit": "days"})
    assert talk.calls[1].arguments == {"operation": "diff", "start": "2026-11-23", "end": "2026-12-25", "unit": "days"}


def test_hours_from_now_keep_the_time_of_day():
    talk = Talk()
    talk.say("in 3 hours", NOW, {"result": "2026-11-23T13:00:00Z"})
    assert talk.calls[1].arguments["datetime"] == "2026-11-23T10:00:00Z"


def test_a_clock_that_answers_in_another_shape_is_told_and_not_trusted():
    assert Talk().say("45 days after today", {"odd": True}) == "odd: true"


def test_pasted_json_alone_is_described():
    assert (
        Talk().say('{"a":1,"b":2}', {"result": "object"}, {"result": ["a", "b"]})
        == "JSON of type object; its keys: a, b."
    )


def test_pasted_json_that_is_no_object_is_described_by_its_length():
    assert Talk().say("[1,2]", {"result": "array"}, {"result": 2}) == "JSON of type array, length 2."


def test_a_missing_slot_is_asked_for_and_the_next_message_fills_it():
    talk = Talk()
    assert talk.say("sha256 of") == "Which text should I hash?"
    assert talk.say("hello; and then what time is it", {"hash": "h", "algorithm": "sha256"}).endswith(": h")
    assert talk.calls[0].arguments == {"operation": "sha256", "input": "hello; and then what time is it"}


def test_a_filled_slot_goes_on_with_the_steps_that_waited():
    talk = Talk()
    assert talk.say("what time is it; uppercase; 2+2", NOW).endswith("Which text?")
    assert talk.say("foo", {"result": "FOO"}, {"result": 4}) == "FOO\n2+2 = 4"


@pytest.mark.parametrize("words", ["cancel", "Cancela.", "never mind", "olvídalo"])
def test_cancel_drops_the_question(words):
    talk = Talk()
    talk.say("uppercase")
    assert talk.say(words) in {"Dropped. What next?", "Cancelado. ¿Qué más?"}
    assert "open question" in talk.say("cancel")


def test_questions_may_follow_one_another():
    talk = Talk()
    assert talk.say("uppercase; lowercase") == "Which text?"
    assert talk.say("a", {"result": "A"}) == "A\nWhich text?"
    assert talk.say("B", {"result": "b"}) == "b"


def test_an_unknown_place_is_asked_for():
    talk = Talk()
    assert "time zone of Atlantis" in talk.say("what time is it in Atlantis?")
    talk.say("Europe/Lisbon", NOW)
    assert talk.calls[0].arguments == {"operation": "now", "timezone": "Europe/Lisbon"}


def test_an_ambiguous_date_is_asked_for():
    talk = Talk()
    assert "YYYY-MM-DD" in talk.say("45 days after 03/04/2026")
    talk.say("2026-04-03", {"result": "2026-05-18"})
    assert talk.calls[0].arguments["datetime"] == "2026-04-03"


def test_memory_is_looked_through_when_the_search_finds_nothing():
    kept = {
        "memories": [{"id": "2", "content": "mi gato es Tom"}, {"id": "1", "content": "mi perro se llama Rex"}],
        "total": 2,
    }
    talk = Talk()
    assert talk.say("what is my dog's name?", NOTHING, kept) == "You told me: mi perro se llama Rex."
    assert [call.name for call in talk.calls] == ["memory_search", "memory_list"]


def test_a_note_about_something_else_is_not_told_as_the_answer():
    cat = {"results": [{"id": "1", "content": "my cat's name is Tom"}], "total": 1}
    kept = {"memories": [{"id": "1", "content": "my cat's name is Tom"}], "total": 1}
    assert Talk().say("what is my dog's name?", cat, kept).startswith("You have not told me exactly that")


def test_what_was_never_told_is_admitted():
    assert "have not told me" in Talk().say("what is my birthday?", NOTHING, {"memories": [], "total": 0})
    assert "No me lo has dicho" in Talk().say("¿cuándo es mi cumpleaños?", NOTHING, {"memories": [], "total": 0})


def test_what_did_i_ask_repeats_the_message_before():
    talk = Talk()
    talk.say("6*7", {"result": 42})
    assert talk.say("what did I ask?") == "You asked: 6*7"


def test_an_unknown_skill_is_answered_with_the_nearest_names():
    answer = Talk().say("/tool calculater {}")
    assert "There is no skill `calculater`" in answer
    assert "`calculator`" in answer


def test_third_party_skills_can_be_called_in_every_form():
    talk = Talk([tool("weather_lookup", "Looks the weather up.", city={"type": "string"})])
    for text in ('/tool weather_lookup {"city":"Oslo"}', "weather_lookup(city=Oslo)", 'weather_lookup("Oslo")'):
        assert talk.say(text, {"sky": "clear", "wind": {"kmh": 3}}) == 'sky: clear\nwind: {"kmh":3}'
        assert talk.calls[-1].arguments == {"city": "Oslo"}


def test_a_sentence_near_to_a_skill_is_answered_with_its_form():
    talk = Talk([*TOOLS, tool("weather_lookup", "Looks the weather of a city up.", city={"type": "string"})])
    assert '`weather_lookup(city="…")`' in talk.say("how is the weather today in this city")


def test_a_skill_that_is_not_on_offer_is_admitted():
    assert (
        Talk([tool("hash")]).say("what is 17*23?") == "That needs the skill `calculator`, which is not on offer here."
    )
    assert "no está disponible" in Talk([tool("hash")]).say("¿cuánto es 17*23?")


def test_without_any_skill_help_says_so():
    assert "No skill is on offer" in Talk(()).say("help")
    assert "no skill is on offer" in Talk(()).say("/tool x {}")


def test_a_message_over_the_cap_is_refused_in_words():
    assert Talk().say("a" * INPUT_BYTES)
    assert "up to 32 KiB" in Talk().say("a" * (INPUT_BYTES + 1))


def test_more_steps_than_are_taken_are_mentioned():
    answer = Talk().say(";".join(["1+1"] * (STEPS + 1)), *[{"result": 2}] * STEPS)
    assert answer.count("1+1 = 2") == STEPS
    assert f"up to {STEPS} steps" in answer


def test_results_of_calls_that_this_plan_did_not_make_are_told():
    call = PlannedCall("other_1", "weather", {"city": "Oslo"})
    history = [message("user", "hello"), calling("", call), result(call, {"sky": "clear"})]
    assert plan(history, TOOLS).text.endswith("sky: clear")


def test_arguments_that_a_reviewer_edited_are_those_that_are_told():
    call = PlannedCall("call_1", "calculator", {"operation": "evaluate", "expression": "17*24"})
    history = [message("user", "what is 17*23?"), calling("Using calculator.", call), result(call, {"result": 408})]
    assert plan(history, TOOLS).text == "17*24 = 408"


def test_ids_go_on_from_the_highest_in_the_history():
    call = PlannedCall("call_41", "hash", {})
    assert next_id([calling("", call), calling("", PlannedCall("toolu_9", "hash", {}))]) == "call_42"
    assert next_id([]) == "call_1"


def test_ids_are_unique_over_a_conversation():
    talk = Talk()
    for _ in range(5):
        talk.say("1+1; 2+2", {"result": 2}, {"result": 4})
    assert len({call.id for call in talk.calls}) == len(talk.calls) == 10


VOCABULARY = """
what is 17*23 sha256 of hello and then ; it the result uppercase remember that my dog ' " { } [1,2] {"a":1} ( ) /tool
hash calculator nope after 2026-11-22 45 days in Madrid is valid email uuid csv : diff compara suma qué recuerda forget
cancel replace with by to base64 encode decode from jwt keys get sort where mean prime \\ ` “ «
"""
some_words = st.lists(st.sampled_from([*VOCABULARY.split(), "\n"]), max_size=12).map(" ".join)
some_text = st.one_of(st.text(max_size=80), some_words)
json_text = st.one_of(
    st.text(max_size=20), st.sampled_from(['{"result":1}', '{"results":[{}]}', '{"skills":[{}]}', "[]", "{", "null"])
)


@st.composite
def histories(draw):
    history, number = [], 0
    for _ in range(draw(st.integers(1, 4))):
        history.append(message("user", draw(some_text)))
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            arguments = draw(st.sampled_from([{}, {"operation": "evaluate"}, {"operation": "now"}]))
            call = PlannedCall(f"call_{number}", draw(st.sampled_from([spec.name for spec in TOOLS])), arguments)
            history += [calling("Using it.", call), result(call, draw(json_text), is_error=draw(st.booleans()))]
        if draw(st.booleans()):
            history.append(message("assistant", draw(st.sampled_from(["Which text?", "ok", ""]))))
    return history


@given(histories())
@settings(deadline=None)
def test_any_history_gets_one_deterministic_answer_with_calls_that_can_be_made(history):
    reply = plan(history, TOOLS)
    assert plan(history, TOOLS) == reply
    assert reply.text
    used = {part.id for said in history for part in said.tool_calls}
    for call in reply.calls:
        assert call.name in {spec.name for spec in TOOLS}
        assert json.loads(json.dumps(call.arguments)) == call.arguments
        assert isinstance(call.arguments, dict)
        assert call.id not in used


@given(some_text, st.lists(st.one_of(json_text, st.builds(Failed, json_text)), min_size=40, max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_message_comes_to_an_end_whatever_its_calls_return(text, results):
    talk = Talk()
    talk.history.append(message("user", text))
    for given_result in results:
        reply = talk.next()
        if not reply.calls:
            return
        failed = isinstance(given_result, Failed)
        talk.history += [
            calling(reply.text, reply.calls[0]),
            result(reply.calls[0], given_result.words if failed else given_result, is_error=failed),
        ]
    pytest.fail("the plan does not end")


def test_a_history_without_a_user_is_answered_with_help():
    assert "argentor-builtin/1" in plan([], TOOLS).text
    assert "argentor-builtin/1" in plan([message("assistant", "hi", (Part("text", text="hi"),))], TOOLS).text
