"""How the arguments and the result of one function become payloads.

The arguments of a call are one payload, ``{"args": [...], "kwargs": {...}}`` (``kwargs`` is left out when empty), in
one spelling for all ways to write the call: what may stand by position does.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic_core import from_json, to_json

from dramaturg_protocol.codecs import ValueCodec, codec_of
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.hints import hints_of, keywords_of, result_of, signature_of
from dramaturg_protocol.payloads import Payload, check_size, opened
from dramaturg_protocol.sameness import same_value
from dramaturg_protocol.sealing import digest_of, may_hold_secrets
from dramaturg_protocol.tags import tagged_text

_EMPTY: Final = inspect.Parameter.empty
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class _Argument:
    """A parameter: how to encode what is passed for it, and what to call it in an error."""

    name: str
    codec: ValueCodec
    where: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """The parameters of a function, resolved."""

    signature: inspect.Signature | None
    positional: tuple[_Argument, ...]
    rest: _Argument | None
    named: Mapping[str, _Argument]
    others: _Argument | None
    fewest: int
    result: _Argument

    def name_at(self, index: int) -> str:
        """What to call the argument of an index beyond the positional parameters."""
        return f"args[{index}]" if self.rest is None else f"{self.rest.name}[{index - len(self.positional)}]"

    def called(self, name: str) -> _Argument | None:
        """The parameter that takes the keyword argument of this name."""
        return self.named.get(name) or self.others


class CallSchema:
    """Encodes and decodes the calls of one function, and their results.

    Annotations are resolved at first use, so that they may name classes that are defined after the function.
    """

    __slots__ = ("_building", "_fn", "_layout", "_namespace", "_skip_first", "_without", "what")

    def __init__(
        self,
        fn: Callable[..., Any] | None,
        what: str,
        *,
        skip_first: bool = False,
        namespace: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.what = what
        self._fn = fn
        self._skip_first = skip_first
        self._namespace = namespace
        self._without = without
        self._layout: _Layout | None = None
        self._building = threading.Lock()

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        what: str,
        *,
        skip_first: bool = False,
        namespace: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
    ) -> CallSchema:
        """Make the schema of a function.

        Parameters:
          fn: the function, ``def`` or ``async def``; decorators are looked through as ``inspect.signature`` does.
          what: what to call it in errors, such as ``"step 'charge'"``.
          skip_first: leave the first parameter out, as for the ``self`` of a method taken from its class.
          namespace: more names that annotations in quotes may use, such as a function's local classes.
          without: parameters that the callers do not give.
        """
        return cls(fn, what, skip_first=skip_first, namespace=namespace, without=without)

    @classmethod
    def open(cls, what: str) -> CallSchema:
        """Make a schema that takes any arguments and any result, tagged: the function is known by its name only."""
        return cls(None, what)

    def __repr__(self) -> str:
        return f"<CallSchema of {self.what}>"

    def encode_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, limit: int | None, secrets: bool | None = None
    ) -> Payload:
        """Encode the arguments of a call.

        Parameters:
          limit: the most bytes that the encoded text may have; ``None`` for no limit.
          secrets: as for ``encode_value``.

        Raises:
          TypeError: the function does not take these arguments.
          PayloadError: an argument does not fit its annotation or cannot be encoded, or all are too large together.
        """
        layout = self._layout or self._resolved()
        secrets = may_hold_secrets() if secrets is None else secrets
        if kwargs or not layout.fewest <= len(args) <= len(layout.positional):
            args, kwargs = self._bound(layout, args, kwargs)
        texts = [
            argument.codec.encode(value, argument.where, secrets=secrets)
            for argument, value in zip(layout.positional, args, strict=False)
        ]
        texts += [
            self._encoded(layout.rest, args[index], layout.name_at(index), secrets)
            for index in range(len(texts), len(args))
        ]
        text = f'{{"args":[{",".join(texts)}]'
        if kwargs:
            text += f',"kwargs":{self._keywords(layout, kwargs, secrets)}'
        text += "}"
        check_size(text, f"the arguments of {self.what}", limit)
        return Payload(text)

    def encode_argument(self, at: int | str, value: Any) -> Payload:
        """Encode one argument of a call that is not complete yet.

        Parameters:
          at: its position, or its name.

        Raises:
          PayloadError: it does not fit its annotation or cannot be encoded, or the function has no such parameter.
        """
        layout = self._layout or self._resolved()
        if isinstance(at, str):
            return Payload(self._encoded(layout.called(at), value, at, False))
        if at < len(layout.positional):
            argument = layout.positional[at]
            return Payload(argument.codec.encode(value, argument.where))
        return Payload(self._encoded(layout.rest, value, layout.name_at(at), False))

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Check how many arguments there are and what they are called, not what they are.

        Raises:
          TypeError: the function does not take these arguments.
        """
        self._bound(self._layout or self._resolved(), args, kwargs)

    def decode_call(self, payload: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decode the arguments of a call, or plain JSON of the same form, converted by the annotations.

        Raises:
          PayloadError: an argument does not fit its annotation, or the function has no such parameter.
        """
        layout = self._layout or self._resolved()
        args, kwargs = self._parsed_call(payload)
        values = [
            argument.codec.restore(plain, argument.where)
            for argument, plain in zip(layout.positional, args, strict=False)
        ]
        values += [
            self._restored(layout.rest, args[index], layout.name_at(index)) for index in range(len(values), len(args))
        ]
        named = {name: self._restored(layout.called(name), plain, name) for name, plain in kwargs.items()}
        return tuple(values), named

    def encode_result(self, value: Any, *, limit: int | None, secrets: bool | None = None) -> Payload:
        """Encode a result by the return annotation (of an ``async def``: what is awaited).

        Raises:
          PayloadError: it does not fit the annotation, cannot be encoded, or is too large.
        """
        result = (self._layout or self._resolved()).result
        secrets = may_hold_secrets() if secrets is None else secrets
        text = result.codec.encode(value, result.where, secrets=secrets)
        check_size(text, result.where, limit)
        return Payload(text)

    def decode_result(self, payload: str) -> Any:
        """Decode a result by the return annotation.

        Raises:
          PayloadError: it does not fit the annotation, or is malformed.
        """
        result = (self._layout or self._resolved()).result
        return result.codec.decode(opened(payload, result.where), result.where)

    def same_call(self, recorded: str, actual: str) -> bool:
        """Tell whether two calls have equal arguments; a set has another order of text in every process."""
        if recorded == actual:
            return True
        try:
            return same_value(self.decode_call(recorded), self.decode_call(actual))
        except PayloadError:
            return False

    def digest_call(self, payload: str) -> str:
        """Give what identifies equal arguments in every process; see `same_digest`."""
        args, kwargs = self.decode_call(payload)
        text = tagged_text([list(args), kwargs], f"the arguments of {self.what}", canonical=True, secrets=True)
        return digest_of(text)

    def _bound(
        self, layout: _Layout, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        if layout.signature is None:
            return args, kwargs
        try:
            bound = layout.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.what}: {error}") from None
        return bound.args, bound.kwargs

    def _keywords(self, layout: _Layout, kwargs: Mapping[str, Any], secrets: bool) -> str:
        pairs = [
            f"{_key(name)}:{self._encoded(layout.called(name), value, name, secrets)}" for name, value in kwargs.items()
        ]
        return f"{{{','.join(pairs)}}}"

    def _encoded(self, argument: _Argument | None, value: Any, name: str, secrets: bool) -> str:
        taker = argument or self._refuse(name)
        return taker.codec.encode(value, _where(name, self.what), secrets=secrets)

    def _restored(self, argument: _Argument | None, plain: Any, name: str) -> Any:
        taker = argument or self._refuse(name)
        return taker.codec.restore(plain, _where(name, self.what))

    def _refuse(self, name: str) -> _Argument:
        raise PayloadError(f"{self.what} takes no argument {name!r}")

    def _parsed_call(self, payload: str) -> tuple[list[Any], dict[str, Any]]:
        payload = opened(payload, f"the arguments of {self.what}")
        try:
            call: Any = from_json(payload)
        except ValueError as error:
            raise PayloadError(f"the arguments of {self.what} are not JSON: {error}") from error
        if _is_call(call):
            return call.get("args", []), call.get("kwargs", {})
        raise PayloadError(f'the arguments of {self.what} are not of the form {{"args": [...], "kwargs": {{...}}}}')

    def _resolved(self) -> _Layout:
        with self._building:
            if self._layout is None:
                self._layout = self._layout_of_fn()
        return self._layout

    def _layout_of_fn(self) -> _Layout:
        if self._fn is None:
            return _open_layout(self.what)
        signature = signature_of(self._fn, skip_first=self._skip_first)
        given = [each for name, each in signature.parameters.items() if name not in self._without]
        signature = signature.replace(parameters=given)
        hints = hints_of(self._fn, self.what, self._namespace)
        return _layout(signature, hints, result_of(self._fn, hints), self.what)


def _layout(signature: inspect.Signature, hints: Mapping[str, Any], result: Any, what: str) -> _Layout:
    positional: list[_Argument] = []
    named: dict[str, _Argument] = {}
    rest = others = None
    fewest = 0
    for name, parameter in signature.parameters.items():
        annotation = hints.get(name, parameter.annotation)
        argument = _Argument(name, codec_of(annotation), _where(name, what))
        if parameter.kind in _POSITIONAL:
            positional.append(argument)
            fewest += parameter.default is _EMPTY
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            rest = argument
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            others = argument
            spelled = keywords_of(annotation)
            named |= {key: _Argument(key, codec_of(one), _where(key, what)) for key, one in spelled.items()}
        elif parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            named[name] = argument
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is _EMPTY:
            fewest = len(signature.parameters) + 1  # a call by position alone is never complete
    answer = _Argument("return", codec_of(result), f"the result of {what}")
    return _Layout(signature, tuple(positional), rest, named, others, fewest, answer)


def _open_layout(what: str) -> _Layout:
    anything = _Argument("args", codec_of(_EMPTY), f"an argument of {what}")
    answer = _Argument("return", codec_of(_EMPTY), f"the result of {what}")
    return _Layout(None, (), anything, {}, anything, 0, answer)


def _is_call(call: Any) -> bool:
    if not isinstance(call, dict):
        return False
    parts = cast("dict[str, Any]", call)
    well_typed = isinstance(parts.get("args", []), list) and isinstance(parts.get("kwargs", {}), dict)
    return well_typed and parts.keys() <= {"args", "kwargs"}


def _where(name: str, what: str) -> str:
    return f"argument {name!r} of {what}"


def _key(name: str) -> str:
    return to_json(name).decode()
