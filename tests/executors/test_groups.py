"""Which executors serve what: groups, techniques, and executors of one group that do not all serve the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trunkline.executors.group_backlog import GroupBacklog
from trunkline.executors.groups import Routes, make_groups
from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.queueing import ANYWHERE, Queue
from trunkline.executors.specs import ExecutorSpec, GroupSpec
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, MethodInfo, Parameter, TopicInfo
from trunkline_protocol.errors import ErrorCode, RpcError

TECHNIQUE = MethodInfo("rag", technique="technique", parameters=[Parameter("technique", {"default": None}, False)])


def group(name: str, size: int = 1, *techniques: str, queue_limit: int | None = None) -> GroupSpec:
    return GroupSpec(name, ExecutorSpec(()), size, techniques=frozenset(techniques), queue_limit=queue_limit)


class Pool:
    """Executors in groups, whose catalogues the test gives."""

    def __init__(self, *groups: GroupSpec) -> None:
        names = [each.name for each in groups for _ in range(each.size)]
        self.executors = [ExecutorHandle(index, {}, lambda _: None, 1, name) for index, name in enumerate(names)]
        self.groups = make_groups(groups, self.executors)
        self.routes = Routes(self.groups)
        self.backlog = GroupBacklog(self.routes, QueueLimits())

    def ready(self, index: int, *methods: str | MethodInfo, topics: Sequence[TopicInfo] = ()) -> Catalogue:
        """An executor is ready; returns its catalogue without what is refused."""
        handle = self.executors[index]
        mine = next(each for each in self.groups if index in each.indexes)
        infos = [MethodInfo(each) if isinstance(each, str) else each for each in methods]
        handle.catalogue = self.routes.accept(mine, Catalogue(infos, topics=list(topics)))
        handle.state = "ready"
        mine.update(handle.catalogue)
        self.routes.rebuild()
        return handle.catalogue

    def queue(self, method: str, params: bytes = b"{}") -> Queue:
        return self.routes.of(Call(method, params)).queue

    def waits(self, *methods: str, queue: Queue = ANYWHERE) -> None:
        for name in methods:
            self.backlog.push(Call(name, b"{}"), ("loop", queue))

    def taken(self, index: int) -> list[str]:
        calls = []
        while (call := self.backlog.next("loop", self.executors[index])) is not None:
            calls.append(call.method)
        return calls


def test_calls_wait_where_those_take_them_that_serve_them() -> None:
    pool = Pool(group("default", 2))
    pool.ready(0, "a", "old")
    pool.ready(1, "a", "old")
    assert pool.queue("old") == ANYWHERE
    pool.waits("a", "old", "a", "new")

    pool.ready(0, "a", "new")
    assert pool.routes.methods.keys() == {"a", "old", "new"}
    assert (pool.queue("a"), pool.queue("new"), pool.queue("old")) == (ANYWHERE, frozenset({0}), frozenset({1}))
    assert pool.backlog.sort() == []
    assert pool.taken(0) == ["a", "new", "a"], "queues take turns"

    pool.ready(1, "a", "new")
    assert pool.routes.methods.keys() == {"a", "new"}
    assert [call.method for call in pool.backlog.sort()] == ["old"], "nobody serves it any more"
    assert pool.backlog.waiting == 0


def test_an_executor_that_is_away_takes_no_name_from_the_catalogue() -> None:
    pool = Pool(group("default", 2))
    pool.ready(0, "a", "theirs")
    pool.executors[0].catalogue = None  # it starts again
    pool.ready(1, "a")
    assert pool.routes.methods.keys() == {"a", "theirs"}
    assert pool.queue("a") == ANYWHERE


def test_a_method_of_two_groups_waits_for_both_and_queues_take_turns() -> None:
    pool = Pool(group("light"), group("heavy", 2))
    pool.ready(0, "both", "light")
    pool.ready(1, "both", "heavy")
    pool.ready(2, "both", "heavy")
    assert (pool.queue("both"), pool.queue("light"), pool.queue("heavy")) == (
        ANYWHERE, frozenset({0}), frozenset({1, 2}),
    )  # fmt: skip
    pool.waits("both", "both")
    pool.waits("light", "light", queue=frozenset({0}))
    assert pool.taken(0) == ["both", "light", "both", "light"]


def test_a_limit_of_a_group_is_its_own() -> None:
    pool = Pool(group("small", 1, queue_limit=2), group("large"))
    pool.ready(0, "small")
    pool.ready(1, "large")
    pool.waits("small", "small", queue=frozenset({0}))
    pool.groups[0].mean_run = 3.0
    with pytest.raises(RpcError) as caught:
        pool.waits("small", queue=frozenset({0}))
    assert caught.value.code == ErrorCode.WORKER_OVERLOADED
    assert caught.value.data["limit"] == "groups.small.queue_limit"
    assert caught.value.retry_after_ms == 6000
    pool.waits("large", "large", "large", queue=frozenset({1}))
    assert [pool.backlog.waiting_for(each) for each in pool.groups] == [2, 3]


def test_techniques_that_are_bound_go_to_their_groups_and_the_others_elsewhere() -> None:
    pool = Pool(group("free"), group("deep", 1, "deep", "wide"), group("deeper", 1, "deep"))
    for index in range(3):
        pool.ready(index, TECHNIQUE)
    assert pool.queue("rag", b'{"technique":"deep"}') == frozenset({1, 2})
    assert pool.queue("rag", b'["wide"]') == frozenset({1})
    for params in (b"{}", b'{"technique":null}', b'{"technique":"new"}'):
        assert pool.queue("rag", params) == frozenset({0})


def test_where_all_groups_list_techniques_an_unknown_one_is_refused_and_none_goes_anywhere() -> None:
    pool = Pool(group("deep", 1, "deep"), group("wide", 1, "wide"))
    for index in range(2):
        pool.ready(index, TECHNIQUE)
    with pytest.raises(
        RpcError, match=r"the technique 'new'; those of the groups deep, wide are: deep, wide"
    ) as caught:
        pool.queue("rag", b'{"technique":"new"}')
    assert caught.value.code == ErrorCode.PIPELINE_NOT_FOUND
    assert pool.queue("rag") == ANYWHERE


def test_routing_keys_are_in_one_group() -> None:
    pool = Pool(group("a"), group("b"))
    keyed = MethodInfo("mine", routing_key="name", pack="mine")
    pool.ready(0, keyed)
    assert pool.routes.state is pool.groups[0]
    catalogue = pool.ready(1, MethodInfo("theirs", routing_key="name", pack="theirs"), "free")
    assert [info.name for info in catalogue.methods] == ["free"]
    (failure,) = catalogue.failed
    assert (failure.module, failure.code, failure.methods) == ("theirs", ErrorCode.INVALID_CONFIGURATION, ["theirs"])
    assert "the groups a and b both have such methods" in failure.message
    assert pool.routes.methods.keys() == {"mine", "free"}


def test_groups_that_declare_a_method_otherwise_do_not_both_serve_it() -> None:
    pool = Pool(group("a"), group("b"))
    pool.ready(0, MethodInfo("m", lane="loop"))
    catalogue = pool.ready(1, MethodInfo("m", lane="thread", pack="m"))
    assert catalogue.methods == []
    assert "declared otherwise in the group a than in b" in catalogue.failed[0].message
    assert pool.queue("m") == frozenset({0})


def test_a_topic_that_another_module_declares_otherwise_is_refused_with_its_module() -> None:
    def told(kind: str, pack: str) -> TopicInfo:
        return TopicInfo("orders.*", "", {"type": kind}, pack)

    pool = Pool(group("default"), group("other"), group("third"))
    pool.ready(0, MethodInfo("a", pack="sales"), topics=[told("object", "sales")])
    refused = pool.ready(
        1, MethodInfo("b", pack="stock"), MethodInfo("c", pack="more"), topics=[told("string", "stock")]
    )
    assert ([info.name for info in refused.methods], refused.topics) == (["c"], [])
    (failure,) = refused.failed
    assert (failure.module, failure.methods) == ("stock", ["b"])
    assert "orders.* are declared differently in stock and in sales" in failure.message
    assert pool.ready(2, topics=[told("object", "copy")]).failed == [], "the same is no contradiction"
    pool.ready(0, MethodInfo("a", pack="sales"), topics=[])
    pool.ready(1, MethodInfo("b", pack="copy"), topics=[told("string", "copy")])
    assert pool.routes.topics["orders.*"].pack == "copy", "one pack in two groups is replaced in one after the other"
