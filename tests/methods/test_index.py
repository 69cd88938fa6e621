"""The index in memory, against comparing everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
faiss = pytest.importorskip("faiss")

from trunkline.methods.vectors import structures  # noqa: E402
from trunkline.methods.vectors.changes import Item, Upsert  # noqa: E402
from trunkline.methods.vectors.index import IndexSpec, VectorIndex  # noqa: E402
from trunkline.methods.vectors.numbers import as_base64, as_vectors  # noqa: E402
from trunkline_protocol.errors import RpcError  # noqa: E402

METRICS = ("cosine", "dot", "euclidean")
FLAT = IndexSpec(2)


def upsert(**vectors: list[float]) -> Upsert:
    rows = as_vectors(list(vectors.values()), 2, "cosine", list(vectors))
    return Upsert([Item(name, f"text of {name}") for name in vectors], rows)


def filled(spec: IndexSpec, items: list[Item], vectors: Any) -> VectorIndex:
    return VectorIndex(spec, items, structures.Flat.of(spec, vectors))


def search(index: VectorIndex, *numbers: float, top_k: int = 10, **options: Any) -> list[tuple[str, float]]:
    vector = as_vectors([numbers], len(numbers), index.spec.metric, ["query"])[0]
    return [(match.item.id, round(match.score, 4)) for match in index.search(vector, top_k, **options)]


def test_the_nearest_come_first_with_their_cosine() -> None:
    index = VectorIndex(FLAT)
    index.upsert(upsert(east=[5, 0], north=[0, 0.1], west=[-1, 0], northeast=[2, 2]))
    assert search(index, 1, 0) == [("east", 1.0), ("northeast", 0.7071), ("north", 0.0), ("west", -1.0)]
    assert search(index, 1, 0, top_k=1) == [("east", 1.0)]
    assert search(index, 1, 0, min_score=0.5) == [("east", 1.0), ("northeast", 0.7071)]
    assert len(index) == 4


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("dot", [("long", 8.0), ("near", 2.0), ("zero", 0.0), ("back", -2.0)]),
        ("euclidean", [("near", 0.0), ("zero", -2.0), ("back", -4.0), ("long", -4.0)]),
    ],
)
def test_scores_of_other_metrics_are_higher_where_it_is_nearer(metric: Any, expected: Any) -> None:
    vectors = np.array([[4, 2 * 12**0.5], [1, 0], [0, 0], [-1, 0]], dtype=np.float32)
    if metric == "euclidean":
        vectors = np.array([[6, 0], [2, 0], [0, 0], [-2, 0]], dtype=np.float32)
    index = filled(IndexSpec(2, metric), [Item(each) for each in ("long", "near", "zero", "back")], vectors)
    assert sorted(search(index, 2, 0), key=lambda found: (-found[1], found[0])) == expected
    assert search(index, 2, 0, min_score=expected[1][1]) == expected[:2]


def test_an_empty_index_finds_nothing() -> None:
    index = VectorIndex(FLAT)
    assert search(index, 1, 0) == []
    assert index.contents()[0] == []
    assert index.contents()[1].shape == (0, 2)


def test_an_item_is_replaced() -> None:
    index = VectorIndex(FLAT)
    index.upsert(upsert(a=[1, 0], b=[0, 1]))
    index.upsert(upsert(a=[0, -1], c=[1, 0]))
    assert len(index) == 3
    assert dict(search(index, 0, -1)) == {"a": 1.0, "c": 0.0, "b": -1.0}
    assert index.missing(["a", "x", "b", "y"]) == ["x", "y"]


def test_what_is_deleted_is_not_found() -> None:
    index = VectorIndex(FLAT)
    index.upsert(upsert(a=[1, 0], b=[0, 1], c=[-1, 0], d=[0, -1]))
    assert index.delete(["b", "nothing", "d", "b"]) == 2
    assert dict(search(index, 0, 1)) == {"a": 0.0, "c": 0.0}
    assert index.delete(["a", "c"]) == 2
    assert search(index, 0, 1) == []
    index.upsert(upsert(b=[0, 1]))
    assert search(index, 0, 1) == [("b", 1.0)]


def test_what_a_filter_found_is_not_remembered_beyond_a_change() -> None:
    vectors = as_vectors([[n, 1.0] for n in range(3000)], 2, "cosine", [""] * 3000)
    index = filled(FLAT, [Item(f"{n}", None, {"n": n}) for n in range(3000)], vectors)
    tried: list[str] = []

    def matches(item: Item) -> bool:
        tried.append(item.id)
        return item.metadata["n"] in (5, 7)

    assert {found for found, _ in search(index, 1, 0, matches=matches)} == {"5", "7"}
    before = len(tried)
    assert {found for found, _ in search(index, 1, 0, matches=matches)} == {"5", "7"}
    assert len(tried) < before + 3000, "not all of them again"
    index.upsert(Upsert([Item("new", None, {"n": 7})], vectors[:1]))
    assert {found for found, _ in search(index, 1, 0, matches=matches)} == {"5", "7", "new"}
    index.delete(["5"])
    assert {found for found, _ in search(index, 1, 0, matches=matches)} == {"7", "new"}
    assert index.matching(matches) == ["7", "new"] or index.matching(matches) == ["new", "7"]


def test_getting_gives_items_with_their_vectors_in_order() -> None:
    index = VectorIndex(FLAT)
    index.upsert(upsert(a=[1, 0], b=[0, 1]))
    last, nothing, first = index.get(["b", "x", "a"])
    assert nothing is None
    assert last is not None
    assert first is not None
    assert [last[0].id, first[0].id] == ["b", "a"]
    assert [last[1].tolist(), first[1].tolist()] == [[0, 1], [1, 0]]


# --- every kind, against comparing everything ---


class Model:
    """What an index should be: a dictionary, and numpy."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.there: dict[str, tuple[Item, Any]] = {}

    def upsert(self, upsert: Upsert) -> None:
        for item, vector in zip(upsert.items, upsert.vectors, strict=True):
            self.there[item.id] = (item, vector)

    def delete(self, ids: list[str]) -> int:
        return sum(self.there.pop(each, None) is not None for each in ids)

    def scores(self, query: Any, matches: Callable[[Item], bool] | None = None) -> dict[str, float]:
        wanted = [(item.id, vector) for item, vector in self.there.values() if matches is None or matches(item)]
        if not wanted:
            return {}
        vectors = np.stack([vector for _, vector in wanted])
        scores = -np.linalg.norm(vectors - query, axis=1) if self.metric == "euclidean" else vectors @ query
        return dict(zip([each for each, _ in wanted], scores.tolist(), strict=True))


def random_vectors(random: Any, count: int, dimension: int, metric: str) -> Any:
    # Few distinct numbers make ties and equal vectors likely; never all zeros.
    rows = random.integers(-2, 3, size=(count, dimension)) + 0.5
    return as_vectors(rows.tolist(), dimension, metric, [""] * count)  # type: ignore[arg-type]


def check_exact(index: VectorIndex, model: Model, random: Any, top_k: int) -> None:
    query = random_vectors(random, 1, index.spec.dimension, index.spec.metric)[0]
    for part in (None, 2, 7):
        matches = None if part is None else lambda item, part=part: item.metadata["n"] % part == 0
        expected = model.scores(query, matches)
        ranked = sorted(expected.values(), reverse=True)[:top_k]
        found = index.search(query, top_k, None, matches)
        assert len({match.item.id for match in found}) == len(found)
        assert [match.score for match in found] == pytest.approx(ranked, abs=1e-4)
        for match in found:
            assert match.score == pytest.approx(expected[match.item.id], abs=1e-4)
            assert match.item == model.there[match.item.id][0], "not an item that was replaced"
        if ranked:
            enough = ranked[len(ranked) // 2] - 1e-4
            above = index.search(query, top_k, enough, matches)
            assert [m.score for m in above] == pytest.approx([s for s in ranked if s >= enough], abs=1e-4)


STEP = st.tuples(st.sampled_from(["upsert", "upsert", "delete", "search"]), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(METRICS), st.lists(STEP, min_size=3, max_size=25), st.integers(0, 2**32 - 1))
def test_any_history_of_a_flat_index_is_exact(metric: Any, steps: list[tuple[str, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    index, model = VectorIndex(IndexSpec(4, metric)), Model(metric)
    for step, size in steps:
        ids = [f"i{n}" for n in random.choice(60, size=size, replace=False)]
        if step == "upsert":
            items = [Item(each, None, {"n": int(random.integers(20))}) for each in ids]
            change = Upsert(items, random_vectors(random, size, 4, metric))
            index.upsert(change)
            model.upsert(change)
        elif step == "delete":
            assert index.delete(ids) == model.delete(ids)
        check_exact(index, model, random, top_k=size)
        assert len(index) == len(model.there)
        assert index.missing(ids) == [each for each in ids if each not in model.there]
    items, vectors = index.contents()
    assert {item.id: (item, tuple(row)) for item, row in zip(items, vectors.tolist(), strict=True)} == {
        each: (item, tuple(row.tolist())) for each, (item, row) in model.there.items()
    }


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Graphs and lists from a few hundred vectors on; of one thread, which makes the same graph every time."""
    monkeypatch.setattr(structures, "FLAT_BELOW", 300)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def gaussian(random: Any, count: int, dimension: int, metric: str) -> Any:
    rows = random.normal(size=(count, dimension))
    return as_vectors(rows.tolist(), dimension, metric, [""] * count)  # type: ignore[arg-type]


def recall(index: VectorIndex, model: Model, random: Any, matches: Callable[[Item], bool] | None = None) -> float:
    """Of the true ten nearest, the share that is found, over ten queries; asserts that the rest is sound."""
    hits = wanted = 0
    for query in gaussian(random, 10, index.spec.dimension, index.spec.metric):
        scores = model.scores(query, matches)
        nearest = sorted(scores, key=lambda each: -scores[each])[:10]
        found = index.search(query, 10, None, matches)
        assert len(found) == len(nearest), "fewer than there are"
        assert [match.score for match in found] == pytest.approx([scores[m.item.id] for m in found], abs=1e-4)
        assert [match.score for match in found] == sorted((m.score for m in found), reverse=True)
        hits += len({match.item.id for match in found} & set(nearest))
        wanted += len(nearest)
    return hits / wanted if wanted else 1.0


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_deletes_and_updates_do_not_degrade_recall(kind: Any, metric: Any) -> None:
    random = np.random.default_rng(1)
    index, model = VectorIndex(IndexSpec(16, metric, kind)), Model(metric)
    most = 0
    for round_ in range(8):
        ids = [f"i{n}" for n in random.choice(900, size=250, replace=False)]
        items = [Item(each, None, {"n": int(random.integers(100)), "round": round_}) for each in ids]
        change = Upsert(items, gaussian(random, 250, 16, metric))
        index.upsert(change)
        model.upsert(change)
        gone = [f"i{n}" for n in random.choice(900, size=80, replace=False)]
        assert index.delete(gone) == model.delete(gone)
        most = max(most, index.tombstones)
        assert recall(index, model, random) >= 0.9
        assert recall(index, model, random, lambda item: item.metadata["n"] < 50) >= 0.9
        assert recall(index, model, random, lambda item: item.metadata["n"] == 7) == 1.0, "few are compared one by one"
        if index.due:
            index.build()
            assert (index.due, index.tombstones) == (False, 0)
    assert most > 100, "there were tombstones"
    assert not index.is_exact
    index.delete(list(model.there))
    assert search(index, *[1.0] * 16) == []


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_changes_during_a_building_are_in_what_was_built(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline.methods.vectors import index as module

    monkeypatch.setattr(module, "SMALL_CHANGE", 50)
    random = np.random.default_rng(3)
    model = Model("cosine")
    change = Upsert([Item(f"i{n}", None, {"n": n}) for n in range(600)], gaussian(random, 600, 8, "cosine"))
    model.upsert(change)
    index = filled(IndexSpec(8, "cosine", kind), [*change.items], change.vectors)
    assert (index.is_exact, index.due) == (True, True)
    building = index.begin_building()
    assert not index.due, "it is being built"
    for rounds in range(3):
        size = (200, 100, 20)[rounds]
        again = Upsert(
            [Item(f"i{n}", "new", {"n": n}) for n in range(500, 500 + size)], gaussian(random, size, 8, "cosine")
        )
        index.upsert(again)
        model.upsert(again)
        gone = [f"i{n}" for n in range(10 * rounds, 10 * rounds + 10)]
        assert index.delete(gone) == model.delete(gone)
        assert recall(index, model, random) == 1.0, "it answers meanwhile, exactly"
        building.work()
        assert index.finish_building(building) == (rounds == 2)
    assert not index.is_exact
    assert len(index) == len(model.there)
    assert recall(index, model, random) >= 0.9
    assert {item.id: item for item in index.contents()[0]} == {each: item for each, (item, _) in model.there.items()}


@pytest.mark.usefixtures("early")
def test_an_abandoned_building_changes_nothing() -> None:
    random = np.random.default_rng(4)
    index = filled(IndexSpec(8, "dot", "hnsw"), [Item(f"{n}") for n in range(400)], gaussian(random, 400, 8, "dot"))
    building = index.begin_building()
    building.abandoned = True
    building.work()
    assert index.finish_building(building)
    assert index.is_exact
    assert index.due


@pytest.mark.usefixtures("early")
def test_an_index_can_become_one_of_another_kind() -> None:
    random = np.random.default_rng(7)
    vectors = gaussian(random, 500, 8, "cosine")
    items = [Item(f"{n}") for n in range(500)]
    index, model = filled(IndexSpec(8), items, vectors), Model("cosine")
    model.upsert(Upsert(items, vectors))
    index.outdate(IndexSpec(8))
    assert index.due is False, "there is nothing to be gained"
    for kind in ("hnsw", "ivf", "ivf", "flat"):
        index.outdate(IndexSpec(8, "cosine", kind))
        assert (index.due,) == (True,)
        assert recall(index, model, random) >= 0.9, "the old one answers"
        index.build()
        assert not index.due
        assert index.is_exact == (kind == "flat")
        assert recall(index, model, random) >= 0.9


@pytest.mark.usefixtures("early")
def test_lists_are_trained_anew_when_they_are_outgrown() -> None:
    random = np.random.default_rng(5)
    vectors = gaussian(random, 1700, 8, "cosine")
    index = filled(IndexSpec(8, "cosine", "ivf"), [Item(f"{n}") for n in range(400)], vectors[:400])
    index.build()
    assert (index.due,) == (False,)
    index.upsert(Upsert([Item(f"{n}") for n in range(400, 1700)], vectors[400:]))
    assert (index.due,) == (True,)
    index.build()
    assert not index.due


@pytest.mark.parametrize(
    ("kind", "params", "says"),
    [
        ("flat", {"m": 16}, "index.m: an index of kind flat has no such parameter; it has none"),
        ("hnsw", {"probes": 4}, "index.probes: .* it has m, ef_construction, ef_search"),
        ("hnsw", {"m": 1}, "index.m: 1 is no whole number from 4 to 128"),
        ("ivf", {"lists": 2.5}, "index.lists: 2.5 is no whole number"),
        ("ivf", {"lists": True}, "index.lists: True is no whole number"),
    ],
)
def test_parameters_of_an_index_are_checked(kind: Any, params: Any, says: str) -> None:
    with pytest.raises(RpcError, match=says):
        IndexSpec(2, "cosine", kind, params)


# --- vectors as they are given ---


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([1.0], "has 1 numbers; the collection's dimension is 2"),
        ([0.0, -0.0], "is all zeros"),
        ([1.0, float("nan")], "has a number that is not finite"),
        ([float("inf"), 1.0], "has a number that is not finite"),
        ([1e300, 1.0], "has a number that is not finite as float32"),
        ("AAAA", "is no base64 of little-endian float32"),
        ("AAAAAAAAA!==", "is no base64 of little-endian float32"),
        ("ümlaut", "is no base64 of little-endian float32"),
        ("AACAPw==", "has 1 numbers"),
        ("AACAPwAAwH8=", "has a number that is not finite"),
    ],
)
def test_what_is_no_vector_is_refused_by_place(row: Any, says: str) -> None:
    with pytest.raises(RpcError, match=f"items.1. {says}"):
        as_vectors([[1.0, 2.0], row], 2, "cosine", ["items[0]", "items[1]"])


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_lengths_count_where_the_metric_is_not_cosine(metric: Any) -> None:
    assert as_vectors([[0, 0], [3, 4]], 2, metric, ["a", "b"]).tolist() == [[0, 0], [3, 4]]
    with pytest.raises(RpcError, match=r"b has length 1e.20; at most 1e.18 can be compared"):
        as_vectors([[0, 0], [1e20, 0]], 2, metric, ["a", "b"])
    with pytest.raises(RpcError, match="a has a number that is not finite"):
        as_vectors([[float("nan"), 0]], 2, metric, ["a"])


@pytest.mark.parametrize("size", [1e-320, 1e-30, 1.0, 3e38])
def test_the_length_of_a_vector_does_not_matter_to_the_cosine(size: float) -> None:
    assert as_vectors([[size, size]], 2, "cosine", ["v"]) == pytest.approx(2**-0.5)


def test_what_has_length_1_is_kept_as_it_is() -> None:
    rows = as_vectors(np.random.default_rng(6).normal(size=(500, 384)).tolist(), 384, "cosine", ["v"] * 500)
    assert as_vectors(rows.tolist(), 384, "cosine", ["v"] * 500).tolist() == rows.tolist()


def test_base64_is_the_same_as_the_numbers() -> None:
    numbers = np.array([0.25, -3.5], dtype=np.float32)
    assert as_vectors([as_base64(numbers)], 2, "dot", ["v"]).tolist() == [numbers.tolist()]
