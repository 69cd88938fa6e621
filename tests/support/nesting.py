"""Where this interpreter's decoders give up on JSON: below 1,000 levels in Python 3.11, about 10,000 since 3.12."""

from __future__ import annotations

import msgspec


def is_decodable(levels: int) -> bool:
    """Whether arrays so deep can be decoded, with what is on the stack now."""
    try:
        msgspec.json.decode(b"[" * levels + b"]" * levels, type=msgspec.Raw)
    except RecursionError:
        return False
    return True


def decodable_levels() -> int:
    """How many levels can be decoded, with what is on the stack now."""
    deep_enough, too_deep = 1, 2
    while is_decodable(too_deep):
        deep_enough, too_deep = too_deep, 2 * too_deep
    while too_deep - deep_enough > 1:
        middle = (deep_enough + too_deep) // 2
        deep_enough, too_deep = (middle, too_deep) if is_decodable(middle) else (deep_enough, middle)
    return deep_enough
