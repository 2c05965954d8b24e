"""Every row of the intent table (agent.md 5.2) and the first calls of the golden examples (5.3), in two languages."""

import pytest
from planner_talk import TOOLS, first_call, message

from argentor_asgi.agent.builtin.planner import plan

E = "evaluate"
JWT = "aaa.bbb.ccc"
UUID = "123e4567-e89b-12d3-a456-426614174000"
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
NOW = {"operation": "now", "timezone": "UTC"}


def sums(*rows):
    return [(text, "calculator", {"operation": E, "expression": expression}) for text, expression in rows]


def calls(skill, *rows):
    return [(text, skill, arguments) for text, arguments in rows]


def texts(*rows):
    return [(said, "text_transform", {"operation": operation, "text": text}) for said, operation, text in rows]


def codes(*rows):
    return [(said, "encode_decode", {"operation": operation, "input": text}) for said, operation, text in rows]


def shifts(*rows):
    return [
        (text, "datetime", {"operation": operation, "datetime": "2026-11-22", "amount": 45, "unit": "days"})
        for text, operation in rows
    ]


SUMS = sums(
    ("what is 17*23?", "17*23"),
    ("What's 15% of 240 plus 3?", "15% of 240 + 3"),
    ("¿cuánto es el 15% de 240 más 3?", "15% of 240 + 3"),
    ("sqrt(2) to 5 digits", "round(sqrt(2), 5)"),
    ("sqrt(2) con 5 decimales", "round(sqrt(2), 5)"),
    ("-2^2", "-2^2"),
    ("2 + 2 =", "2 + 2"),
    ("calculate (12+8)/5", "(12+8)/5"),
    ("calcula (12+8)/5", "(12+8)/5"),
    ("compute 10 divided by 4", "10 / 4"),
    ("¿cuánto es 10 entre 4?", "10 / 4"),
    ("cuánto es 3 más 4 por 2", "3 + 4 * 2"),
    ("diez menos tres", "10 - 3"),
    ("two plus three", "2 + 3"),
    ("square root of 16", "sqrt(16)"),
    ("what is the square root of (12+4)?", "sqrt(12+4)"),
    ("raíz cuadrada de 16", "sqrt(16)"),
    ("5 squared", "5^2"),
    ("5 al cuadrado", "5^2"),
    ("5² + 1", "5^2 + 1"),
    ("3 \u00d7 4 \u00f7 2", "3 * 4 / 2"),
    ("what is 1,000 + 2,500?", "1000 + 2500"),
    ("cuánto es 1,5 + 2", "1.5 + 2"),
    ("15 percent of 80", "15% of 80"),
    ("the sum of 1, 2 and 3", "1 + 2 + 3"),
    ("suma 2 y 3", "2 + 3"),
    ("subtract 3 from 10", "10 - 3"),
    ("multiply 3 by 4", "3 * 4"),
    ("divide 10 entre 4", "10 / 4"),
    ("can you calculate 2+2 please?", "2+2"),
    ("por favor, ¿puedes calcular 2+2?", "2+2"),
)
NUMBERS = calls(
    "calculator",
    ("is 97 prime?", {"operation": "is_prime", "n": 97}),
    ("¿es 97 un número primo?", {"operation": "is_prime", "n": 97}),
    ("factorial of 5", {"operation": "factorial", "n": 5}),
    ("factorial de 5", {"operation": "factorial", "n": 5}),
    ("5!", {"operation": "factorial", "n": 5}),
    ("mean of 1, 2, 3 and 4", {"operation": "mean", "values": [1, 2, 3, 4]}),
    ("media de 1, 2 y 3.5", {"operation": "mean", "values": [1, 2, 3.5]}),
    ("max of [1, 5, 2]", {"operation": "max", "values": [1, 5, 2]}),
    ("median of 1 2 9", {"operation": "median", "values": [1, 2, 9]}),
    ("máximo de 4, 9 y 2", {"operation": "max", "values": [4, 9, 2]}),
)
CLOCK = calls(
    "datetime",
    ("what time is it?", NOW),
    ("qué hora es", NOW),
    ("what's the date today?", NOW),
    ("¿qué día es hoy?", NOW),
    ("please, could you tell me what time it is?", NOW),
    ("what time is it in Madrid?", {"operation": "now", "timezone": "Europe/Madrid"}),
    ("¿qué hora es en Madrid?", {"operation": "now", "timezone": "Europe/Madrid"}),
    ("time in New York", {"operation": "now", "timezone": "America/New_York"}),
    ("dime la hora en Tokio", {"operation": "now", "timezone": "Asia/Tokyo"}),
    ("what time is it in Asia/Kolkata", {"operation": "now", "timezone": "Asia/Kolkata"}),
    ("what date is 45 days after today?", NOW),
    ("in 3 weeks", NOW),
    ("hace 3 días", NOW),
    ("how many days until 2026-12-25?", NOW),
    ("cuántos días faltan para el 2026-12-25", NOW),
    (
        "how many days are there between 2026-11-22 and 2027-01-06?",
        {"operation": "diff", "start": "2026-11-22", "end": "2027-01-06", "unit": "days"},
    ),
    (
        "cuántas semanas hay entre 2026-11-22 y 2027-01-06",
        {"operation": "diff", "start": "2026-11-22", "end": "2027-01-06", "unit": "weeks"},
    ),
    ("what day of the week is 2026-11-22?", {"operation": "day_of_week", "datetime": "2026-11-22"}),
    ("¿qué día de la semana es 2026-11-22?", {"operation": "day_of_week", "datetime": "2026-11-22"}),
    ("weekday of 22 November 2026", {"operation": "day_of_week", "datetime": "2026-11-22"}),
    ("is 2024 a leap year?", {"operation": "is_leap_year", "year": 2024}),
    ("¿es bisiesto el año 2024?", {"operation": "is_leap_year", "year": 2024}),
    ("how many days in February 2024?", {"operation": "days_in_month", "year": 2024, "month": 2}),
    ("cuántos días tiene febrero de 2024", {"operation": "days_in_month", "year": 2024, "month": 2}),
)
SHIFTS = shifts(
    ("what date is 45 days after 2026-11-22?", "add"),
    ("qué fecha es 45 días después del 22 de noviembre de 2026", "add"),
    ("45 days before November 22, 2026", "subtract"),
    ("45 días antes de 2026-11-22", "subtract"),
    ("add 45 days to 2026-11-22", "add"),
    ("resta 45 días de 22/11/2026", "subtract"),
    ("2026-11-22 + 45 days", "add"),
    ("2026-11-22 menos 45 días", "subtract"),
)
JSON = calls(
    "json_query",
    ('get a.1 from {"a":[1,2]}', {"operation": "get", "data": {"a": [1, 2]}, "path": "a.1"}),
    ('obtén a.1 de {"a":[1,2]}', {"operation": "get", "data": {"a": [1, 2]}, "path": "a.1"}),
    ('what is the value of a[1] in {"a":[1,2]}?', {"operation": "get", "data": {"a": [1, 2]}, "path": "a.1"}),
    ('keys of {"a":1}', {"operation": "keys", "data": {"a": 1}}),
    ('claves de {"a":1}', {"operation": "keys", "data": {"a": 1}}),
    ("length of [1,2]", {"operation": "length", "data": [1, 2]}),
    ("sort [3,1,2]", {"operation": "sort", "data": [3, 1, 2]}),
    ('ordena [{"a":2},{"a":1}] por a', {"operation": "sort", "data": [{"a": 2}, {"a": 1}], "field": "a"}),
    ('flatten {"a":{"b":1}}', {"operation": "flatten", "data": {"a": {"b": 1}}}),
    ('aplana {"a":{"b":1}}', {"operation": "flatten", "data": {"a": {"b": 1}}}),
    ('filter [{"a":2}] where a > 1', {"operation": "filter", "data": [{"a": 2}], "field": "a", "op": "gt", "value": 1}),
    (
        'filtra [{"a":"x"}] donde a = x',
        {"operation": "filter", "data": [{"a": "x"}], "field": "a", "op": "eq", "value": "x"},
    ),
    ('merge {"a":1} and {"b":2}', {"operation": "merge", "data": {"a": 1}, "other": {"b": 2}}),
    ('fusiona {"a":1} y {"b":2}', {"operation": "merge", "data": {"a": 1}, "other": {"b": 2}}),
    ('diff {"a":1} and {"b":2}', {"operation": "diff", "data": {"a": 1}, "other": {"b": 2}}),
    ('pick a, b from {"a":1}', {"operation": "pick", "data": {"a": 1}, "fields": ["a", "b"]}),
    ('omite a de {"a":1}', {"operation": "omit", "data": {"a": 1}, "fields": ["a"]}),
    ('remove a from {"a":1}', {"operation": "delete", "data": {"a": 1}, "path": "a"}),
    ('set a to 5 in {"a":1}', {"operation": "set", "data": {"a": 1}, "path": "a", "value": 5}),
    ('{"a":1}', {"operation": "type_of", "data": {"a": 1}}),
)
TEXT = texts(
    ("uppercase hello", "uppercase", "hello"),
    ('uppercase "hello; world"', "uppercase", "hello; world"),
    ("convert hello world to uppercase", "uppercase", "hello world"),
    ("pasa hola a mayúsculas", "uppercase", "hola"),
    ("lowercase HELLO", "lowercase", "HELLO"),
    ("HOLA en minúsculas", "lowercase", "HOLA"),
    ("title case hello world", "title_case", "hello world"),
    ("convert HelloWorld to snake_case", "snake_case", "HelloWorld"),
    ("camel case hello world", "camel_case", "hello world"),
    ("slugify Hello World", "slug", "Hello World"),
    ("slug de Hola Mundo", "slug", "Hola Mundo"),
    ("reverse hello", "reverse", "hello"),
    ("invierte la palabra hola", "reverse", "hola"),
    ('trim "  a "', "trim", "  a "),
    ('recorta "  a "', "trim", "  a "),
    ("count the words in the quick fox", "word_count", "the quick fox"),
    ("cuántas palabras hay en uno dos tres?", "word_count", "uno dos tres"),
    ("how many characters are in hello?", "char_count", "hello"),
    ("cuenta las letras de hola", "char_count", "hola"),
    ('count lines in "a"', "line_count", "a"),
    ('cuenta las líneas de "a"', "line_count", "a"),
) + calls(
    "text_transform",
    (
        'replace "a; b" with "c" in "a; b and a; b"',
        {"operation": "replace", "find": "a; b", "replacement": "c", "text": "a; b and a; b"},
    ),
    ("reemplaza a por o en banana", {"operation": "replace", "find": "a", "replacement": "o", "text": "banana"}),
)
HASH = calls(
    "hash",
    ("sha256 of hello", {"operation": "sha256", "input": "hello"}),
    ("calcula el sha256 de hola", {"operation": "sha256", "input": "hola"}),
    ('sha256 of {"a":1}', {"operation": "sha256", "input": '{"a":1}'}),
    ("hash hello with sha512", {"operation": "sha512", "input": "hello"}),
    ("suma de verificación de abc", {"operation": "checksum", "input": "abc"}),
    ('hmac of "hello" with key "k"', {"operation": "hmac_sha256", "input": "hello", "key": "k"}),
    (f"verify hash {HELLO} of hello", {"operation": "verify", "input": "hello", "hash": HELLO, "algorithm": "sha256"}),
)
CODE = codes(
    ("base64 encode hello", "base64_encode", "hello"),
    ("base64 of hello", "base64_encode", "hello"),
    ('encode "a b" as base64', "base64_encode", "a b"),
    ("codifica hola en base64", "base64_encode", "hola"),
    ("base64 decode aGVsbG8=", "base64_decode", "aGVsbG8="),
    ("decodifica aG9sYQ== de base64", "base64_decode", "aG9sYQ=="),
    ("base64url encode hello", "base64url_encode", "hello"),
    ("url encode a b&c", "url_encode", "a b&c"),
    ("hex encode hi", "hex_encode", "hi"),
    ("codifica hola en hexadecimal", "hex_encode", "hola"),
    ("html escape <b>", "html_encode", "<b>"),
    (f"decode jwt {JWT}", "jwt_decode", JWT),
    (f"decodifica el jwt {JWT}", "jwt_decode", JWT),
)
IDS = calls(
    "uuid_generator",
    ("uuid", {"operation": "generate", "version": 4}),
    ("genera un uuid", {"operation": "generate", "version": 4}),
    ("generate a uuid v7", {"operation": "generate", "version": 7}),
    ("generate 3 uuids", {"operation": "generate_bulk", "count": 3}),
    ("dame tres uuids", {"operation": "generate_bulk", "count": 3}),
    (f"validate uuid {UUID}", {"operation": "validate", "uuid": UUID}),
)
VALID = calls(
    "data_validator",
    ("is a@b.com a valid email?", {"operation": "email", "value": "a@b.com"}),
    ("¿es a@b.com un email válido?", {"operation": "email", "value": "a@b.com"}),
    ("valida el correo a@b.com", {"operation": "email", "value": "a@b.com"}),
    ("is https://a.b a valid url?", {"operation": "url", "value": "https://a.b"}),
    ("is 10.0.0.1 a valid ip?", {"operation": "ipv4", "value": "10.0.0.1"}),
    ("is ::1 a valid ip?", {"operation": "ipv6", "value": "::1"}),
    ("es 1.2.3 una versión válida", {"operation": "semver", "value": "1.2.3"}),
)
BLOCKS = [
    ("csv to json:\na,b\n1,2", "csv_processor", {"operation": "to_json", "data": "a,b\n1,2"}),
    ("convierte csv a json:\na,b\n1,2", "csv_processor", {"operation": "to_json", "data": "a,b\n1,2"}),
    (
        "estadísticas de la columna b del csv:\na,b\n1,2",
        "csv_processor",
        {"operation": "statistics", "column": "b", "data": "a,b\n1,2"},
    ),
    ("count rows in csv:\na,b\n1,2", "csv_processor", {"operation": "count_rows", "data": "a,b\n1,2"}),
    ('diff "a" and "b"', "diff", {"operation": "diff", "old": "a", "new": "b"}),
    ('compara "uno" con "dos"', "diff", {"operation": "diff", "old": "uno", "new": "dos"}),
    ("diff:\na\nb\n---\na\nc", "diff", {"operation": "diff", "old": "a\nb", "new": "a\nc"}),
    (
        "summarize: It is blue; and then it rains. It pours.",
        "summarizer",
        {"operation": "summarize", "text": "It is blue; and then it rains. It pours."},
    ),
    ("resume en 2 frases: A. B. C.", "summarizer", {"operation": "summarize", "text": "A. B. C.", "sentences": 2}),
    ("keywords of the quick fox", "summarizer", {"operation": "extract_keywords", "text": "the quick fox"}),
    ("palabras clave de casa azul", "summarizer", {"operation": "extract_keywords", "text": "casa azul"}),
]
MEMORY = [
    ("remember that my dog is called Rex", "memory_store", {"content": "my dog is called Rex"}),
    ("recuerda que mi perro se llama Rex", "memory_store", {"content": "mi perro se llama Rex"}),
    ("remember that we eat and then we sleep", "memory_store", {"content": "we eat and then we sleep"}),
    ("what is my dog's name?", "memory_search", {"query": "dog name"}),
    ("what is my dog called?", "memory_search", {"query": "dog called"}),
    ("cómo se llama mi perro", "memory_search", {"query": "llama perro"}),
    ("¿cuál es el nombre de mi perro?", "memory_search", {"query": "nombre perro"}),
    ("what do you know about my dog?", "memory_search", {"query": "dog"}),
    ("qué sabes de mi perro", "memory_search", {"query": "perro"}),
    ("forget my dog", "memory_forget", {"query": "my dog"}),
    ("olvida mi perro", "memory_forget", {"query": "mi perro"}),
    ("list memories", "memory_list", {}),
    ("lista mis recuerdos", "memory_list", {}),
    ("skills", "skills_help", {}),
    ("lista de habilidades", "skills_help", {}),
    ("help calculator", "skills_help", {"name": "calculator"}),
    ("ayuda con calculator", "skills_help", {"name": "calculator"}),
]
DIRECT = [
    (
        '/tool json_query {"operation":"get","data":{"a":[1,2]},"path":"a.1"}',
        "json_query",
        {"operation": "get", "data": {"a": [1, 2]}, "path": "a.1"},
    ),
    ("/tool hash", "hash", {}),
    ('/tool hash operation=sha256 input="a b"', "hash", {"operation": "sha256", "input": "a b"}),
    ('hash(operation="sha256", input="a, b; c")', "hash", {"operation": "sha256", "input": "a, b; c"}),
    ("hash(operation=sha256, input='a, b')", "hash", {"operation": "sha256", "input": "a, b"}),
    ('use hash with {"operation":"sha256","input":"x"}', "hash", {"operation": "sha256", "input": "x"}),
    ('usa hash con {"operation":"sha256","input":"x"}', "hash", {"operation": "sha256", "input": "x"}),
]
ROWS = (
    SUMS + NUMBERS + CLOCK + SHIFTS + JSON + TEXT + HASH + CODE + IDS + VALID + BLOCKS + MEMORY + DIRECT
)  # fmt: skip


@pytest.mark.parametrize(("text", "skill", "arguments"), ROWS, ids=[row[0][:60] for row in ROWS])
def test_a_request_leads_to_its_call(text, skill, arguments):
    assert first_call(text) == (skill, arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "embedded offline planner"),
        ("hola", "planificador integrado"),
        ("thanks", "You are welcome"),
        ("gracias", "De nada"),
        ("who are you?", "no language model"),
        ("¿quién eres?", "sin modelo de lenguaje"),
        ("help", "what is 17*23?"),
        ("ayuda", "¿cuánto es 17*23?"),
        ("cancel", "no open question"),
        ("what did I ask?", "not asked anything"),
        ("md5 of hello", "sha256 or sha512"),
        ("/tool", "/tool name {…}"),
        ("/tool hash {bad", "not valid JSON"),
        ("/tool hash [1]", "is called like this"),
        ("forget everything", "one thing at a time"),
        ("replace a", "Write it like"),
        ("hmac of x", "with key"),
        ("nope(a=1)", "There is no skill `nope`"),
    ],
)
def test_some_requests_need_no_skill(text, words):
    skill, answer = first_call(text)
    assert (skill, words in answer) == ("", True), answer


@pytest.mark.parametrize(
    "text",
    [
        "tell me a joke",
        "cuéntame un chiste",
        "what is the capital of France?",
        "in many days",
        "get a from {b}",
        "filter [1] where ???",
        "hello with sha256",
        "…",
        "",
    ],
)
def test_what_nothing_matches_is_answered_honestly_with_examples(text):
    skill, answer = first_call(text)
    assert skill == ""
    assert "argentor-builtin/1" in answer
    assert "17*23" in answer


def test_every_example_that_is_shown_works():
    for text in ("help", "ayuda"):
        answer = first_call(text)[1]
        for example in answer.split("`")[1::2]:
            assert first_call(example)[0], example


def test_a_date_is_no_sum():
    assert first_call("2026-11-22")[0] == ""


def test_the_sentence_before_a_call_is_in_the_language_of_the_request():
    assert plan([message("user", "what is 17*23?")], TOOLS).text == "Using calculator."
    assert plan([message("user", "¿cuánto es 17*23?")], TOOLS).text == "Usando calculator."


def test_a_request_without_language_keeps_that_of_the_one_before():
    history = [message("user", "hola, ¿qué hora es?"), message("assistant", "…"), message("user", "17*23")]
    assert plan(history, TOOLS).text == "Usando calculator."
