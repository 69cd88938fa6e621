"""Random values of random types, there and back: out is what went in, and what the published schemas say."""

from __future__ import annotations

import asyncio
import json
from random import Random
from types import ModuleType
from typing import Any

import jsonschema
from hypothesis import given, note
from hypothesis import strategies as st

from tests.support.drawing import reader_of, values_of
from tests.support.modules.drawn import hint_of, identity
from trunkline.methods.local import LocalMethods
from trunkline.methods.wire_values import encode


async def there_and_back(hint: Any, value: Any) -> tuple[Any, Any, bytes, bytes]:
    """What a method was given, the schemas of params and results, and the JSON of both."""
    module = ModuleType("round")
    module.__dict__["trip"] = identity(hint, "round.trip")
    async with LocalMethods(module) as local:
        bound = local._registry.methods["round.trip"]
        sent = encode({"value": value}, "the test gave", large_integers=True)
        took = bound.binding.arguments(sent)["value"]
        result = await local.call("round.trip", {"value": value})
        return took, bound.info, sent, encode(result, "the method returned")


@given(st.integers(0, 2**32), st.data())
def test_out_is_what_went_in(seed: int, data: st.DataObject) -> None:
    hint = hint_of(Random(seed))
    value = data.draw(values_of(hint))
    note(f"hint: {hint}")
    took, info, sent, result = asyncio.run(there_and_back(hint, value))
    assert took == value
    assert type(took) is type(value)
    assert reader_of(hint).read(result) == value
    jsonschema.validate(json.loads(sent)["value"], info.parameters[0].schema)
    jsonschema.validate(json.loads(result), info.result)
