"""Frozen dataclasses to plain JSON and back, checked against their type hints."""

from __future__ import annotations

import dataclasses
import types
import typing
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from papers_shared.entries import shown
from papers_shared.errors import UserError
from papers_shared.ranges import Formerly, check_ranges
from papers_shared.text import read_json

T = TypeVar("T")


def dataclass_to_json(obj: Any) -> dict[str, Any]:
    """A dataclass instance as nested dicts, lists and JSON scalars; tuples become lists."""
    return {field.name: _plain(getattr(obj, field.name)) for field in dataclasses.fields(obj)}


def dataclass_from_json(cls: type[T], obj: Any, where: str = "config") -> T:
    """Build the dataclass `cls` from what `dataclass_to_json` made; a missing key takes the field's default.

    Understood are nested dataclasses, tuples, lists, dicts, Literal, Optional and other unions, and scalars.

    Args:
        where: What to call `obj` in messages, e.g. the file's name.

    Raises:
        UserError: A key is unknown or missing without a default, or a value does not fit its type or is not
            `Within` what its field says.
    """
    if not isinstance(obj, dict):
        raise UserError(f"{where} must be an object with the fields of {cls.__name__}, not {shown(obj)}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    unknown = sorted(set(obj) - set(fields))
    if unknown:
        raise UserError(
            f"{where} has the unknown key {shown(unknown[0])}; {cls.__name__} knows {', '.join(fields)}"
        )
    hints, notes = typing.get_type_hints(cls), typing.get_type_hints(cls, include_extras=True)
    values = {
        name: _typed(hints[name], _as_now(notes[name], value), f"{where}.{name}")
        for name, value in obj.items()
    }
    for name, field in fields.items():
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise UserError(f"{where} lacks the key {name!r}")
    built = cls(**values)
    check_ranges(built, where)
    return built


def read_dataclass(cls: type[T], path: str | Path) -> T:
    """`dataclass_from_json` of a JSON file.

    Raises:
        UserError: There is no such file, it is not JSON, or it does not fit `cls`.
    """
    return dataclass_from_json(cls, read_json(path), str(path))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclass_to_json(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _as_now(hint: Any, value: Any) -> Any:
    """The value of a field by its present name."""
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, Formerly) and value == note.name:
            return note.now
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return dataclass_from_json(hint, value, where)
    if origin is typing.Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise UserError(f"{where} is {shown(value)}; choose one of {', '.join(map(repr, args))}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _union(args, value, where)
    if origin in (tuple, list):
        return _sequence(origin, args, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where} must be an object, not {shown(value)}")
        return {key: _typed(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, not {shown(value)}")
    return value


def _union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    some = [choice for choice in choices if choice is not type(None)]
    if value is None and len(some) < len(choices):
        return None
    if len(some) == 1:
        return _typed(some[0], value, where)
    for choice in some:
        with suppress(UserError):
            return _typed(choice, value, where)
    raise UserError(f"{where} cannot be {shown(value)}")


def _sequence(origin: Any, args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise UserError(f"{where} must be a list, not {shown(value)}")
    if origin is list or (len(args) == 2 and args[1] is Ellipsis):
        hints = [args[0]] * len(value)
    else:
        hints = list(args)
    if len(hints) != len(value):
        raise UserError(f"{where} must hold {len(hints)} values, not {len(value)}")
    return origin(
        _typed(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    )
