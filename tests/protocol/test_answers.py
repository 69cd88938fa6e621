"""What a text that is no JSON was to answer."""

from __future__ import annotations

import msgspec
import pytest

from trunkline_protocol.codecs.answers import about_request, unreadable


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","id":"h:7","result":NaN}',
        ' { "seq" : 3 , "jsonrpc" : "2.0" , "id" : "h:7" , "error" : {',
        '{"id":"h:7","seq":3,"jsonrpc":"2.0","result":[',
        '{"result":NaN,"id":"h:7","jsonrpc":"2.0","seq":3} ',
        '{"jsonrpc":"2.0","method":"stream_chunk","params":{"request_id":"h:7","index":0,"data":NaN}}',
        '{"jsonrpc":"2.0","method":"stream_chunk","seq":9,"params":{"request_id":"h:7", "data":',
    ],
)
def test_ids_that_can_be_told(text: str) -> None:
    assert about_request(text.encode()) == "h:7"


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","id":"7","result":NaN}',
        '{"jsonrpc":"2.0","id":7,"result":NaN}',
        '{"jsonrpc":"2.0","id":"h:7","method":"a","params":NaN}',
        '{"jsonrpc":"2.0","method":"publish","params":{"request_id":"h:7","data":NaN}}',
        '{"jsonrpc":"2.0","id":"mine","result":{"jsonrpc":"2.0","id":"h:7","result":NaN}}',
        '{"jsonrpc":"2.0","result":{"a":NaN,"id":"h:7"',
        '{"jsonrpc":"2.0","result":NaN,"other":{"x":1,"id":"h:7"}}',
        '[{"jsonrpc":"2.0","id":"h:7","result":NaN}]',
        "",
    ],
)
def test_ids_that_are_something_else(text: str) -> None:
    assert about_request(text.encode()) is None


def test_it_takes_no_longer_for_long_texts() -> None:
    assert about_request(b"{" + b" " * 10**7) is None
    assert about_request(b'{"result":' + b'"id":"h:7",' * 10**6) is None


@pytest.mark.parametrize("text", ["1e400", "[-1E+309]", '{"a":' + "1" * 400 + "}", '{"a":' + "1" * 300 + "e20}"])
def test_numbers_that_no_double_holds(text: str) -> None:
    assert unreadable(text.encode()) is not None
    assert unreadable(msgspec.Raw(text.encode())) is not None


@pytest.mark.parametrize("text", ["1e308", '"1e400"', "[1e-400]", '{"a":' + "1" * 308 + "}", '"5e99"', "null"])
def test_what_looks_like_one(text: str) -> None:
    assert unreadable(text.encode()) is None
    assert unreadable(msgspec.Raw(text.encode())) is None
