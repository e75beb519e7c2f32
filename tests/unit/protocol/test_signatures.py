from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, cast

import pytest
import typing_extensions
from pydantic import BaseModel

from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.signatures import CallSchema
from tests.unit.protocol.payload_types import Item, Options, Point, SpecialItem

P = ParamSpec("P")
R = TypeVar("R")


def charge(order_id: str, cents: int = 100, *, note: str = "", when: datetime | None = None) -> str:
    raise NotImplementedError


def everything(a: int, /, b: int, *rest: float, c: set[str], **more: Item) -> None:
    raise NotImplementedError


def schema_of(fn: Callable[..., Any], **options: Any) -> CallSchema:
    return CallSchema.of(fn, "step 'it'", **options)


def text_of(schema: CallSchema, *args: Any, **kwargs: Any) -> str:
    return schema.encode_call(args, kwargs, limit=None)


def test_arguments_come_back_by_their_annotations() -> None:
    schema = schema_of(everything)

    text = text_of(schema, 1, 2, 3, 4, c={"x"}, item=SpecialItem(sku="a"))

    assert schema.decode_call(text) == ((1, 2, 3.0, 4.0), {"c": {"x"}, "item": SpecialItem(sku="a")})


def test_all_spellings_of_a_call_have_one_text() -> None:
    schema = schema_of(charge)

    spellings = {text_of(schema, "o", 5), text_of(schema, "o", cents=5), text_of(schema, cents=5, order_id="o")}

    assert spellings == {'{"args":["o",5]}'}


def test_defaults_are_not_filled_in() -> None:
    assert text_of(schema_of(charge), "o") == '{"args":["o"]}'


def test_what_cannot_stand_by_position_stands_by_keyword_in_the_order_of_the_signature() -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)

    text = text_of(schema_of(charge), "o", when=when, note="n")

    assert text == '{"args":["o"],"kwargs":{"note":"n","when":"2026-01-02T00:00:00Z"}}'


def test_a_gap_in_the_positions_leaves_the_rest_to_keywords() -> None:
    def steps(a: int, b: int = 2, c: int = 3) -> None:
        raise NotImplementedError

    assert text_of(schema_of(steps), 1, c=4) == '{"args":[1],"kwargs":{"c":4}}'


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing a required argument: 'order_id'"),
        (("o", 1, 2), {}, "too many positional arguments"),
        (("o",), {"order_id": "p"}, "multiple values for argument 'order_id'"),
        (("o",), {"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_a_call_that_the_function_does_not_take_is_a_type_error(args: Any, kwargs: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"^step 'it': .*{says}"):
        schema_of(charge).encode_call(args, kwargs, limit=None)


def test_a_missing_keyword_only_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"missing a required (keyword-only )?argument: 'c'"):
        text_of(schema_of(everything), 1, 2)


@pytest.mark.parametrize(
    ("args", "kwargs", "where"),
    [
        ((1, "x"), {"c": {"x"}}, "argument 'b' of step 'it'"),
        ((1, 2, 3, "x"), {"c": {"x"}}, "argument 'rest[1]' of step 'it'"),
        ((1, 2), {"c": 5}, "argument 'c' of step 'it'"),
        ((1, 2), {"c": {"x"}, "last": 5}, "argument 'last' of step 'it'"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(args: Any, kwargs: Any, where: str) -> None:
    with pytest.raises(PayloadError) as refused:
        schema_of(everything).encode_call(args, kwargs, limit=None)

    assert str(refused.value).startswith(where)


def test_plain_json_from_elsewhere_is_converted() -> None:
    args, kwargs = schema_of(charge).decode_call('{"kwargs": {"order_id": "o", "cents": "5"}, "args": []}')

    assert (args, kwargs) == ((), {"order_id": "o", "cents": 5})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "1",
        '{"args":{}}',
        '{"kwargs":[]}',
        '{"arguments":[]}',
        '{"args":["o",1,2]}',
        '{"args":["o"],"kwargs":{"colour":1}}',
        '{"args":["o","x"]}',
    ],
)
def test_a_stored_call_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match="step 'it'"):
        schema_of(charge).decode_call(text)


def test_the_limit_holds_for_all_arguments_together() -> None:
    with pytest.raises(PayloadError, match=r"the arguments of step 'it': .* DRAMATURG_MAX_PAYLOAD"):
        schema_of(charge).encode_call(("o" * 30,), {}, limit=30)


async def fetch() -> list[Item]:
    raise NotImplementedError


def promise() -> Coroutine[Any, Any, list[Item]]:
    raise NotImplementedError


def eventually() -> Awaitable[list[Item]]:
    raise NotImplementedError


@pytest.mark.parametrize("fn", [fetch, promise, eventually])
def test_the_result_of_what_is_awaited_goes_by_the_awaited_type(fn: Callable[..., Any]) -> None:
    schema = schema_of(fn)

    text = schema.encode_result([{"sku": "a"}], limit=None)

    assert schema.decode_result(text) == [Item(sku="a")]


def test_a_function_that_promises_none_may_give_nothing_else() -> None:
    schema = schema_of(everything)

    assert schema.decode_result(schema.encode_result(None, limit=None)) is None
    with pytest.raises(PayloadError, match=r"^the result of step 'it': .*got int"):
        schema.encode_result(5, limit=None)


def test_a_function_without_annotations_takes_and_gives_anything() -> None:
    def free(a, *rest, **more):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    schema = schema_of(cast("Callable[..., Any]", free))

    assert schema.decode_call(text_of(schema, {1}, (2,), b=Point(3))) == (({1}, (2,)), {"b": Point(3)})
    assert schema.decode_result(schema.encode_result((1, {2}), limit=None)) == (1, {2})


def test_an_open_schema_takes_any_call() -> None:
    schema = CallSchema.open("step 'elsewhere'")

    assert schema.decode_call(text_of(schema, 1, {2}, b=(3,))) == ((1, {2}), {"b": (3,)})
    with pytest.raises(PayloadError, match=r"argument 'args\[1\]' of step 'elsewhere'"):
        text_of(schema, 1, object())


def passes_on(fn: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(fn)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    return inner


def test_a_decorated_function_is_looked_through() -> None:
    schema = schema_of(passes_on(passes_on(everything)))

    assert text_of(schema, "1", 2, c=[]) == '{"args":[1,2],"kwargs":{"c":[]}}'


def test_a_parameter_of_a_type_variable_takes_anything() -> None:
    def same(value: R, others: list[R]) -> R:
        raise NotImplementedError

    schema = schema_of(same)

    assert schema.decode_call(text_of(schema, {1}, [(2,)])) == (({1}, [(2,)]), {})


class Resize:
    def run(self, width: int) -> bool:
        raise NotImplementedError

    def __call__(self, width: int) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize(
    "schema",
    [
        schema_of(Resize.run, skip_first=True),
        schema_of(Resize().run),
        schema_of(Resize()),
        schema_of(functools.partial(Resize().run)),
    ],
)
def test_methods_callables_and_partials_have_their_own_parameters_only(schema: CallSchema) -> None:
    assert text_of(schema, width="5") == '{"args":[5]}'
    assert schema.decode_result("true") is True


def test_keywords_that_a_typed_dict_spells_out_go_by_their_annotations() -> None:
    def spelled(**options: typing_extensions.Unpack[Options]) -> None:
        raise NotImplementedError

    assert text_of(schema_of(spelled), limit="5", note={1}).startswith('{"args":[],"kwargs":{"limit":5,"note":{"$type"')


def before(late: Late, many: list[Late]) -> Late:
    raise NotImplementedError


before_schema = schema_of(before)


class Late(BaseModel):
    inner: Later


def test_a_class_may_be_defined_after_the_function() -> None:
    text = text_of(before_schema, {"inner": {"n": 1}}, [])

    assert before_schema.decode_call(text) == ((Late(inner=Later(n=1)), []), {})


class Later(BaseModel):
    n: int


def test_a_local_class_is_found_through_the_namespace_that_is_given() -> None:
    class Local(BaseModel):
        n: int

    def use(local: Local) -> None:
        raise NotImplementedError

    schema = schema_of(use, namespace=locals())

    assert schema.decode_call('{"args":[{"n":1}]}') == ((Local(n=1),), {})


def test_an_annotation_that_cannot_be_resolved_is_named_with_its_parameter() -> None:
    def use(fine: int, missing: NoSuchClass) -> None:  # type: ignore[name-defined]  # noqa: F821
        raise NotImplementedError

    schema = schema_of(cast("Callable[..., Any]", use))

    with pytest.raises(PayloadError, match=r"argument 'missing' of step 'it'.*NoSuchClass"):
        text_of(schema, 1, 2)


class Unfinished(BaseModel):
    part: NeverDefined  # type: ignore[name-defined]  # noqa: F821


def test_a_model_that_is_never_finished_is_named_with_its_parameter() -> None:
    def use(thing: Unfinished) -> None:
        raise NotImplementedError

    with pytest.raises(PayloadError, match="argument 'thing' of step 'it'"):
        text_of(schema_of(use, namespace=locals()), {"part": 1})


def mixed(names: set[str], anything: Any) -> None:
    raise NotImplementedError


SAME = ('{"args":[["a","b"],{"x":1,"y":2}]}', '{"args":[["b","a"],{"y":2,"x":1}]}')
OTHER = '{"args":[["a","b"],{"x":1,"y":true}]}'


def test_calls_are_the_same_when_their_values_are() -> None:
    schema = schema_of(mixed)

    assert schema.same_call(*SAME)
    assert not schema.same_call(SAME[0], OTHER)
    assert not schema.same_call(SAME[0], '{"args":[5]}')


def test_the_digest_is_of_the_values() -> None:
    schema = schema_of(mixed)

    digests = [schema.digest_call(text) for text in (*SAME, OTHER)]

    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


IN_ANOTHER_PROCESS = """
from dramaturg_protocol.signatures import CallSchema
def f(names: set[str], more): ...
schema = CallSchema.of(f, "f")
text = schema.encode_call(({*"abcdefgh"}, {frozenset({*"xyz"}): {*"uvw"}}), {}, limit=None)
print(schema.digest_call(text))
"""


def test_the_digest_of_sets_is_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1
