"""What a function takes and returns, and how that travels as JSON.

The payload of a task is an object of its parameters by name; those left out are the function's defaults. A function
whose only parameter is positional-only takes the whole payload as that parameter.

Knows no server, and nothing of when a function is run.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter
from typing import Any, Union, get_type_hints

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec import inspect as types

from dtm.protocol.framing import MAX_VALUE
from dtm.protocol.values import BadValue, encoded
from dtm.tasks.errors import BadArguments, BadTask, UnexpectedResult

_PLACE = re.compile(r"(?s)(?P<complaint>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?")
_STARS = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}
_EXCERPT = 60


class Parameters:
    """What one function takes and returns.

    Raises:
        BadTask: it cannot travel as JSON.
    """

    def __init__(self, kind: str, function: Callable[..., Any]) -> None:
        self.kind = kind
        hints = _hints(kind, function)
        self._signature = _signature(function, hints)
        parameters = list(self._signature.parameters.values())
        for parameter in parameters:
            _require_name(kind, parameter)
        self._whole = parameters[0] if _is_whole(parameters) else None
        for name, hint in hints.items():
            _require_json(kind, "its result" if name == "return" else f"its parameter {name!r}", hint)
        self._returns = hints.get("return", Any)
        self.payload_type: Any = hints.get(self._whole.name, Any) if self._whole else _struct(kind, parameters, hints)
        self._decoder = msgspec.json.Decoder(self.payload_type)

    def payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Raw:
        """Write the arguments of a call as a payload.

        Raises:
            BadArguments: the function does not take them.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(f"{self.kind}{self._signature}: {error}") from None
        if self._whole is not None:
            bound.apply_defaults()
            data = self._encoded(self._whole.name, bound.arguments[self._whole.name])
        else:
            data = self._object(bound.arguments)
        try:
            self._decoder.decode(data)
        except (ValueError, RecursionError) as error:
            raise BadArguments(self._misfit(error, bound.arguments)) from error
        if len(data) > MAX_VALUE:
            raise BadArguments(
                f"{self.kind} wanted arguments of at most {MAX_VALUE:,} bytes of JSON, found {len(data):,};"
                " store what is large elsewhere and submit where it is"
            )
        return Raw(data)

    def digest(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Give a text that is the same for the same arguments, whether defaults are written out or not."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        # A default that is no JSON is the same in each process, but its own text may not be.
        data = msgspec.json.encode(bound.arguments, enc_hook=lambda value: type(value).__qualname__, order="sorted")
        return hashlib.sha256(data).hexdigest()

    def call(self, function: Callable[..., Any], payload: Any) -> Any:
        """Call `function` with what a payload, decoded as `payload_type`, has for each of its parameters."""
        if self._whole is not None:
            return function(payload)
        positional, by_name = [], {}
        for name, parameter in self._signature.parameters.items():
            value = getattr(payload, name)
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                positional.append(parameter.default if value is UNSET else value)
            elif value is not UNSET:
                by_name[name] = value
        return function(*positional, **by_name)

    def result(self, value: Raw) -> Any:
        """Read a result as what the function says to return.

        Raises:
            UnexpectedResult: it is something else.
        """
        try:
            return msgspec.json.decode(value, type=self._returns)
        except (ValueError, RecursionError) as error:
            text = bytes(value).decode("utf-8", "backslashreplace")
            raise UnexpectedResult(
                f"{self.kind} has another result than its annotation here says: {_lower(str(error))}; found"
                f" {_excerpt(text)}; the worker's code may be another"
            ) from error

    def _object(self, arguments: Mapping[str, Any]) -> bytes:
        try:
            return encoded(arguments)
        except BadValue as error:
            for name, value in arguments.items():
                self._encoded(name, value)  # names the one
            raise BadArguments(f"{self.kind}: its arguments cannot be sent: it {error}") from error

    def _encoded(self, name: str, value: Any) -> bytes:
        try:
            return encoded(value)
        except BadValue as error:
            raise BadArguments(
                f"{self.kind}: wanted JSON for the parameter {name!r}, found {_excerpt(repr(value))}: it {error}"
            ) from error

    def _misfit(self, error: Exception, arguments: Mapping[str, Any]) -> str:
        match = _PLACE.fullmatch(str(error))
        assert match is not None
        path = match["path"] or ""
        if self._whole is not None:
            path = f"{self._whole.name}{path if path.startswith('[') or not path else '.' + path}"
        name = re.split(r"[.\[]", path, maxsplit=1)[0]
        found = _excerpt(repr(arguments[name])) if name in arguments else "other arguments"
        return f"{self.kind}: parameter {path!r}: {_lower(match['complaint'])}; found {found}"


def _hints(kind: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise BadTask(
            f"{kind}: its annotations cannot be read: {error}; every type in them must be there, at the top of the"
            " module, when the function is decorated"
        ) from error


def _signature(function: Callable[..., Any], hints: Mapping[str, Any]) -> inspect.Signature:
    """Give the signature with the types that its annotations, which may be text, mean."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=hints.get(name, Parameter.empty))
        for name, parameter in signature.parameters.items()
    ]
    return signature.replace(parameters=parameters, return_annotation=hints.get("return", Parameter.empty))


def _is_whole(parameters: list[Parameter]) -> bool:
    return [parameter.kind for parameter in parameters] == [Parameter.POSITIONAL_ONLY]


def _require_name(kind: str, parameter: Parameter) -> None:
    if parameter.kind in _STARS:
        found = f"{_STARS[parameter.kind]}{parameter.name}"
        raise BadTask(f"{kind}: wanted parameters that each have a name, found {found}; take a list or a dict instead")


def _struct(kind: str, parameters: list[Parameter], hints: Mapping[str, Any]) -> type[Struct]:
    # What is left out stays with the function: its default need not be JSON, nor what its annotation says.
    fields: list[Any] = [
        (parameter.name, hints.get(parameter.name, Any))
        if parameter.default is Parameter.empty
        else (parameter.name, Union[hints.get(parameter.name, Any), UnsetType], UNSET)  # noqa: UP007
        for parameter in parameters
    ]
    try:
        return msgspec.defstruct(kind, fields, kw_only=True, forbid_unknown_fields=True)
    except (RuntimeError, TypeError, ValueError) as error:
        # A name such as __x is another one in a class.
        raise BadTask(f"{kind}: its parameters cannot travel as JSON: {error}; give them other names") from error


def _require_json(kind: str, what: str, hint: Any) -> None:
    try:
        strange = next(_strange(types.type_info(hint), set()), None)
    except TypeError as error:
        raise BadTask(f"{kind}: {what} cannot travel as JSON: {error}") from error
    if strange is not None:
        raise BadTask(
            f"{kind}: {what} cannot travel as JSON: {getattr(strange, '__name__', strange)} is no type of it; take"
            " numbers, text, bytes, datetimes, enums, UUIDs, dataclasses, msgspec Structs, TypedDicts, or lists, dicts"
            " and unions of these"
        )


def _strange(info: Any, seen: set[Any]) -> Iterator[Any]:
    """Give the types inside `info` that msgspec does not know; types may hold themselves."""
    if isinstance(info, types.CustomType):
        yield info.cls
    known = getattr(info, "cls", None)
    if known not in seen:
        seen.update([] if known is None else [known])
        for part in _parts(info):
            yield from _strange(part, seen)


def _parts(info: Any) -> Iterable[Any]:
    if isinstance(info, types.Type | types.Field):
        return [getattr(info, field) for field in info.__struct_fields__ if not field.startswith("default")]
    return info if isinstance(info, tuple) else ()


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"
