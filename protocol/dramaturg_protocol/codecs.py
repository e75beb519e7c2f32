"""How values under one annotation become JSON text and come back: a codec for each annotation.

No value may change its type in silence. Where pydantic's own text could lose something (a subclass in place of its
base, a time zone, bytes in a model, the branch of a union), the codec reads the text back and compares; if it lost
something, the value is written in the tagged form, which is compared likewise, and refused if that fails too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from dramaturg_protocol import annotations as kinds
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.sameness import same_value
from dramaturg_protocol.tags import MAX_NESTING, TAG_IN_TEXT, tagged_text, text_of
from dramaturg_protocol.untags import UnknownTag, untagged

_PLAIN_INT: Final = 2**63
#: A number that parsers refuse, of 4300 digits or more, fills at least one block of this many characters.
_DIGITS: Final = 2_000


class ValueCodec:
    """Encodes and decodes the values of one annotation.

    The ``where`` of every method says what the value is, for the error's message: ``"argument 'cents' of step
    'charge'"``.
    """

    __slots__ = ()

    def encode(self, value: Any, where: str, *, secrets: bool = False) -> str:
        """Convert a value by the annotation and give its JSON text.

        Parameters:
          secrets: write ``SecretStr`` and ``SecretBytes`` in clear, for a store that encrypts.

        Raises:
          PayloadError: it does not fit the annotation, or cannot be encoded.
        """
        raise NotImplementedError

    def decode(self, text: str, where: str) -> Any:
        """Give the value of a JSON text, plain or tagged, converted by the annotation.

        Raises:
          PayloadError: it does not fit the annotation, or is malformed.
        """
        raise NotImplementedError

    def restore(self, plain: Any, where: str) -> Any:
        """Give the value of parsed JSON, as ``decode`` does of its text."""
        return self.decode(text_of(plain), where)


class OpenCodec(ValueCodec):
    """For values whose annotation says nothing: the tagged form."""

    __slots__ = ()

    def encode(self, value: Any, where: str, *, secrets: bool = False) -> str:
        return native_text(value) or tagged_text(value, where, secrets=secrets)

    def decode(self, text: str, where: str) -> Any:
        return untagged_text(text, where)

    def restore(self, plain: Any, where: str) -> Any:
        return untagged(plain, where)


class TypedCodec(ValueCodec):
    """For values that pydantic converts by their annotation."""

    __slots__ = ("_adapters", "_annotation")

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._adapters: tuple[TypeAdapter[Any], TypeAdapter[Any]] | None = None

    def encode(self, value: Any, where: str, *, secrets: bool = False) -> str:
        return self._text(self._converted(value, where), where, secrets)

    def decode(self, text: str, where: str) -> Any:
        if TAG_IN_TEXT in text:
            try:
                value = untagged_text(text, where)
            except UnknownTag:  # a model may have a field of that name in its own JSON
                return self._validated(lambda stored: stored.validator.validate_json(text), where)
            return self._validated(lambda stored: stored.validator.validate_python(value), where)
        return self._validated(lambda stored: stored.validator.validate_json(text), where)

    def _text(self, value: Any, where: str, secrets: bool) -> str:
        """The text of a value that is of the annotation's type already."""
        raise NotImplementedError

    def _plain_text(self, value: Any) -> str | None:
        """Pydantic's own text, or none where it has none that can stand for the value."""
        try:
            text = self._adapter[1].serializer.to_json(value, by_alias=True, round_trip=True, warnings=False).decode()
        except Exception:  # noqa: BLE001  # also what a user's own serializer raises
            return None
        return None if TAG_IN_TEXT in text or _is_risky(text) else text

    def _converted(self, value: Any, where: str) -> Any:
        try:
            return self._adapter_for(where)[0].validator.validate_python(value)
        except ValidationError as error:
            raise PayloadError(f"{where}: {explained(error)}") from None  # it shows the values, perhaps secret ones
        except Exception as error:
            raise PayloadError(unusable(where, error)) from error

    def _validated(self, read: Callable[[TypeAdapter[Any]], Any], where: str) -> Any:
        try:
            return read(self._adapter_for(where)[1])
        except ValidationError as error:
            raise PayloadError(f"{where}: {explained(error)}") from None  # it shows the values, perhaps secret ones
        except Exception as error:
            raise PayloadError(unusable(where, error)) from error

    @property
    def _adapter(self) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
        return self._adapters or self._adapter_for("a value")

    def _adapter_for(self, where: str) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
        """The adapters for values from code and for stored text, built at first use: classes may be defined late."""
        if self._adapters is None:
            self._adapters = adapters_of(self._annotation)  # two threads may both do it, to the same end
        return self._adapters


class CertainCodec(TypedCodec):
    """For annotations whose values pydantic is known to read back as they were: nothing to compare."""

    __slots__ = ()

    def _text(self, value: Any, where: str, secrets: bool) -> str:
        return self._plain_text(value) or tagged_text(value, where, secrets=secrets)


class NativeCodec(CertainCodec):
    """For ``int``, ``str``, ``bool``, ``float`` and ``None``, whose values are JSON's own as a rule."""

    __slots__ = ("_exact",)

    def __init__(self, annotation: Any) -> None:
        super().__init__(annotation)
        self._exact = annotation

    def encode(self, value: Any, where: str, *, secrets: bool = False) -> str:
        if type(value) is self._exact:
            text = native_text(value)
            if text is not None:
                return text
        return super().encode(value, where, secrets=secrets)

    def restore(self, plain: Any, where: str) -> Any:
        return plain if type(plain) is self._exact else super().restore(plain, where)


class CheckedCodec(TypedCodec):
    """For all other annotations: what is written is read back and compared before it is used."""

    __slots__ = ()

    def _text(self, value: Any, where: str, secrets: bool) -> str:
        text = self._plain_text(value)
        if text is not None and self._comes_back(text, value, where):
            return text
        text = tagged_text(value, where, secrets=secrets)
        for candidate in (text, f'{{{TAG_IN_TEXT}:"value","value":{text}}}'):
            if self._comes_back(candidate, value, where):
                return candidate
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise PayloadError(f"{where}: a {kind} would not come back from its encoded form as it was")

    def _comes_back(self, text: str, value: Any, where: str) -> bool:
        try:
            return same_value(self.decode(text, where), value)
        except Exception:  # noqa: BLE001  # also what a user's own validator raises
            return False


class PartlyOpenCodec(CheckedCodec):
    """For annotations with an open part: checked by pydantic, written in the tagged form."""

    __slots__ = ()

    def _text(self, value: Any, where: str, secrets: bool) -> str:
        try:
            return tagged_text(value, where, secrets=secrets)
        except PayloadError:
            text = self._plain_text(value)
            if text is not None and self._comes_back(text, value, where):
                return text
            raise


class ContainerCodec(PartlyOpenCodec):
    """For bare ``list``, ``dict``, ``tuple``, ``set`` and ``frozenset``."""

    __slots__ = ("_exact",)

    def __init__(self, annotation: Any) -> None:
        super().__init__(annotation)
        self._exact = annotation

    def _converted(self, value: Any, where: str) -> Any:
        return value if type(value) is self._exact else super()._converted(value, where)

    def decode(self, text: str, where: str) -> Any:
        value = untagged_text(text, where)
        return value if type(value) is self._exact else super().decode(text, where)

    def restore(self, plain: Any, where: str) -> Any:
        value = untagged(plain, where)
        return value if type(value) is self._exact else super().restore(plain, where)


def codec_of(annotation: Any) -> ValueCodec:
    """Give the codec of an annotation; equal annotations share one.

    An annotation whose classes cannot be resolved yet is no error here: the codec resolves them at its first use.
    """
    try:
        return _cached_codec(annotation, getattr(annotation, "__args__", ()))
    except TypeError:  # unhashable, such as Annotated[int, {}]
        return _new_codec(annotation)


@lru_cache(maxsize=4096)
def _cached_codec(annotation: Any, parts: Any) -> ValueCodec:
    # Keyed by the parts too, since int | str == str | int though the first match may differ.
    return _new_codec(annotation)


def _new_codec(annotation: Any) -> ValueCodec:
    annotation = kinds.normal(annotation)
    if kinds.is_open(annotation):
        return OpenCodec()
    if isinstance(annotation, type):
        if annotation in kinds.NATIVE:
            return NativeCodec(annotation)
        if annotation in kinds.CONTAINERS:
            return ContainerCodec(annotation)
    if kinds.has_open_part(annotation):
        return PartlyOpenCodec(annotation)
    return CertainCodec(annotation) if kinds.is_certain(annotation) else CheckedCodec(annotation)


def adapters_of(annotation: Any) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    """Build the adapters of an annotation: one for values from code, one for stored text.

    They differ in what a ``str`` means where bytes are wanted: its UTF-8 in code, base64 in stored JSON.
    """
    code: ConfigDict = {"arbitrary_types_allowed": True}
    stored: ConfigDict = {"ser_json_bytes": "base64", "val_json_bytes": "base64", "ser_json_inf_nan": "strings"}
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=code | stored)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        adapter = TypeAdapter(annotation)
        return adapter, adapter
    if kinds.mentions(annotation, bytes):
        return TypeAdapter(annotation, config=code), adapter
    return adapter, adapter


def native_text(value: object) -> str | None:
    """Give the JSON text of a value that is exactly a plain scalar of JSON's, and none of any other."""
    if type(value) is str:
        try:
            return to_json(value).decode()
        except ValueError:  # a lone surrogate: the tagged form explains it
            return None
    if type(value) is int:
        return str(value) if -_PLAIN_INT < value < _PLAIN_INT else None
    if type(value) is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    return to_json(value).decode() if type(value) is float and isfinite(value) else None


def untagged_text(text: str, where: str) -> Any:
    """Give the value of a JSON text in the tagged form.

    Raises:
      PayloadError: it is not JSON, or malformed.
    """
    try:
        plain = from_json(text)
    except ValueError as error:
        raise PayloadError(f"{where} is not JSON: {error}") from error
    return untagged(plain, where) if TAG_IN_TEXT in text else plain


def explained(error: ValidationError) -> str:
    """Say in one line what pydantic found wrong: types and places, never values."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    place = "".join(f"[{step!r}]" for step in first["loc"])
    got = f"{first['msg']}, got {type(first['input']).__name__}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{place + ': ' if place else ''}{got}{more}"


def unusable(where: str, error: Exception) -> str:
    """Say that a type cannot be used, is not there yet, or has a validator that broke."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, PydanticUserError | NameError):
        return f"{where}: its annotation cannot be resolved: {reason}"
    return f"{where} cannot be converted: {type(error).__name__}: {reason}"


def _is_risky(text: str) -> bool:
    """Whether a text may hold what parsers refuse: NaN literals, numbers of thousands of digits, or deep nesting."""
    if "NaN" in text.replace('"NaN"', "") or "Infinity" in text.replace('Infinity"', ""):
        return True
    if len(text) >= _DIGITS and any(text[at - _DIGITS : at].isdigit() for at in range(_DIGITS, len(text), _DIGITS)):
        return True
    return text.count("[") + text.count("{") > MAX_NESTING and _nesting(text) > MAX_NESTING


def _nesting(text: str) -> int:
    """The deepest nesting of a JSON text; brackets inside strings may only make it look deeper."""
    deepest = level = 0
    for character in text:
        if character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest
