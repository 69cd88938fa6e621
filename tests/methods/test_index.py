"""The index in memory."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("faiss")

from trunkline.methods.vectors.index import VectorIndex, unit_vectors  # noqa: E402
from trunkline.methods.vectors.log import Item, Upsert  # noqa: E402
from trunkline_protocol.errors import RpcError  # noqa: E402


def upsert(**vectors: list[float]) -> Upsert:
    rows = unit_vectors(list(vectors.values()), 2, list(vectors))
    return Upsert([Item(name, f"text of {name}") for name in vectors], rows)


def search(index: VectorIndex, *numbers: float, top_k: int = 10) -> list[tuple[str, float]]:
    vector = unit_vectors([numbers], 2, ["query"])[0]
    return [(match.item.id, round(match.score, 4)) for match in index.search(vector, top_k)]


def test_the_nearest_come_first_with_their_cosine() -> None:
    index = VectorIndex(2)
    index.upsert(upsert(east=[5, 0], north=[0, 0.1], west=[-1, 0], northeast=[2, 2]))
    assert search(index, 1, 0) == [("east", 1.0), ("northeast", 0.7071), ("north", 0.0), ("west", -1.0)]
    assert search(index, 1, 0, top_k=1) == [("east", 1.0)]
    assert len(index) == 4


def test_an_empty_index_finds_nothing() -> None:
    assert search(VectorIndex(2), 1, 0) == []


def test_an_item_is_replaced() -> None:
    index = VectorIndex(2)
    index.upsert(upsert(a=[1, 0], b=[0, 1]))
    index.upsert(upsert(a=[0, -1], c=[1, 0]))
    assert len(index) == 3
    assert dict(search(index, 0, -1)) == {"a": 1.0, "c": 0.0, "b": -1.0}
    assert index.missing(["a", "x", "b", "y"]) == ["x", "y"]


def test_a_history_is_the_same_as_its_steps() -> None:
    random = np.random.default_rng(1)
    history = [upsert(**{f"i{random.integers(30)}": random.normal(size=2).tolist()}) for _ in range(200)]
    stepped = VectorIndex(2)
    for each in history:
        stepped.upsert(each)
    assert search(VectorIndex(2, history), 0.3, 0.7, top_k=100) == search(stepped, 0.3, 0.7, top_k=100)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([1.0], "has 1 numbers; the collection's dimension is 2"),
        ([0.0, -0.0], "all zeros"),
        ([1.0, float("nan")], "not finite"),
        ([float("inf"), 1.0], "not finite"),
        ([1e300, 1.0], "not finite as float32"),
    ],
)
def test_what_is_no_vector_is_refused_by_place(row: list[float], says: str) -> None:
    with pytest.raises(RpcError, match=f"items.1. {says}|items.1. has a number that is {says}|items.1. is {says}"):
        unit_vectors([[1.0, 2.0], row], 2, ["items[0]", "items[1]"])


@pytest.mark.parametrize("size", [1e-320, 1e-30, 1.0, 3e38])
def test_the_length_of_a_vector_does_not_matter(size: float) -> None:
    assert unit_vectors([[size, size]], 2, ["v"]) == pytest.approx(2**-0.5)
