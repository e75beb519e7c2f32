from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dramaturg.cli.arguments import call_of, duration_of, json_or_text, since_of, tags_of
from dramaturg.cli.exits import UsageError


def test_an_object_gives_keywords_and_an_array_positions() -> None:
    assert call_of('{"a": 1}', None) == ((), {"a": 1})
    assert call_of("[1, [2]]", None) == ((1, [2]), {})
    assert call_of(None, None) == ((), {})


def test_single_arguments_join_the_input_and_come_before_it() -> None:
    assert call_of('{"a": 1, "b": 2}', ["b=3", "c=x"]) == ((), {"a": 1, "b": 3, "c": "x"})
    assert call_of("[1]", ["b=true"]) == ((1,), {"b": True})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("true", True), ("null", None), ("[1]", [1]), ("o1", "o1"), ('"1"', "1"), ("", ""), ("NaN", "NaN")],
)
def test_a_single_value_is_json_if_it_parses_and_text_otherwise(text: str, value: object) -> None:
    assert json_or_text(text) == value
    assert call_of(None, [f"x={text}"]) == ((), {"x": value})


def test_a_value_may_hold_equals_signs() -> None:
    assert call_of(None, ["x=a=b"]) == ((), {"x": "a=b"})


def test_input_comes_from_a_file_or_from_stdin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "order.json").write_text('{"name": "Zoë"}', encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))

    assert call_of("@order.json", None) == ((), {"name": "Zoë"})
    assert call_of("-", None) == ((1,), {})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{"a": 1', "line 1, column 8: .*, at its end"),
        ('{"a":\n  x}', "line 2, column 3: .*, near 'x}'"),
        ("1", "object .* or array .*, not 1"),
        ("[NaN]", "NaN is not a JSON value"),
        ("@nowhere.json", "nowhere.json: No such file"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_input_says_where_and_why(given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call_of(given, None)


@pytest.mark.parametrize("pair", ["x", "=1"])
def test_an_argument_without_a_name_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="--arg takes NAME=VALUE"):
        call_of(None, [pair])


def test_tags_are_text_numbers_and_booleans() -> None:
    assert tags_of(["a=1", "b=true", "c=x", "d=1.5", 'e="1"', "f=[1]"]) == {
        "a": 1,
        "b": True,
        "c": "x",
        "d": "1.5",
        "e": '"1"',
        "f": "[1]",
    }


def test_a_moment_without_a_zone_is_local_and_everything_else_a_duration() -> None:
    moment = since_of("2026-05-01T12:00")
    assert isinstance(moment, datetime)
    assert moment.tzinfo is not None
    assert since_of("2026-05-01T12:00:00+00:00") == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert since_of("2h") == timedelta(hours=2)
    assert since_of(None) is None


def test_a_duration_may_be_a_number_of_seconds() -> None:
    assert duration_of("--timeout", "1.5") == timedelta(seconds=1.5)
    with pytest.raises(UsageError, match="--timeout: 'soon' is not a duration"):
        duration_of("--timeout", "soon")
