"""Random values of the types that ``tests/support/modules/drawn.py`` makes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from tests.support.modules import drawn
from trunkline.methods.wire_types import core_schema, member_schema
from trunkline.methods.wire_values import Reader

EXACT = 2**53 - 1

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-EXACT, EXACT),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
    bytes: st.binary(),
    None: st.none(),
    type(None): st.none(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    UUID: st.uuids(),
    dt.date: st.dates(),
    dt.datetime: st.datetimes(timezones=st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3))])),
    dt.time: st.times(),
    dt.timedelta: st.timedeltas(dt.timedelta(days=-1_000_000), dt.timedelta(days=1_000_000)),
    Path: st.sampled_from([Path("/a/b"), Path(), Path("ö/ü.txt")]),
    drawn.Tint: st.sampled_from(list(drawn.Tint)),
    drawn.Aliased: st.builds(lambda user, data: drawn.Aliased(userId=user, data=data), st.integers(0, 9), st.binary()),
    drawn.Pair: st.builds(drawn.Pair, st.binary(), st.decimals(allow_nan=False, allow_infinity=False)),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(arg) for arg in args])
    if origin is list:
        return st.lists(values_of(args[0]), max_size=4)
    if origin is set:
        return st.sets(values_of(args[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(values_of(args[0]), values_of(args[1]), max_size=4)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values_of(args[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, args))
    return _records_of(hint)


def _records_of(kind: Any) -> st.SearchStrategy[Any]:
    members = {name: values_of(hint) for name, hint in get_type_hints(kind).items()}
    if issubclass(kind, (BaseModel, tuple)) or dataclasses.is_dataclass(kind):
        return st.builds(lambda given: kind(**given), st.fixed_dictionaries(members))
    return st.fixed_dictionaries(members)


def reader_of(hint: Any) -> Reader:
    """What reads values of an annotation."""
    return Reader(member_schema(core_schema({"value": hint}, "a test", ConfigDict()), "value"))
