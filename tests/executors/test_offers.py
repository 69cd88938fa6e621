"""Which executors serve what, where they do not all serve the same."""

from __future__ import annotations

from trunkline.executors.handle import ExecutorHandle
from trunkline.executors.offers import Offers
from trunkline.executors.queueing import ANYWHERE, PoolBacklog
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import Call
from trunkline_protocol.catalogue import Catalogue, MethodInfo


def executor(index: int, *names: str) -> ExecutorHandle:
    made = ExecutorHandle(index, lambda *_: None, lambda _: None, 1)
    made.catalogue = Catalogue([MethodInfo(name) for name in names]) if names else None
    return made


def waiting(backlog: PoolBacklog, queue: int) -> list[str]:
    calls = []
    while (call := backlog.pop(("loop", queue))) is not None:
        calls.append(call.method)
    return calls


def test_calls_wait_where_those_take_them_that_serve_them() -> None:
    offers, methods = Offers(), dict[str, MethodInfo]()
    old, new = executor(0, "a", "old"), executor(0, "a", "new")
    other = executor(1, "a", "old")
    assert old.catalogue is not None
    assert new.catalogue is not None
    assert offers.update(old.catalogue, [old, other], methods) == []
    backlog = PoolBacklog(QueueLimits(), lambda: 1)
    for name in ("a", "old", "a", "new"):
        backlog.push(Call(name, b"{}", b""), ("loop", ANYWHERE))

    assert offers.update(new.catalogue, [new, other], methods) == [ANYWHERE]
    assert methods.keys() == {"a", "old", "new"}
    assert offers.sort([ANYWHERE], backlog) == []
    assert list(new.queues) == [0, ANYWHERE, offers.queue("new")]
    assert list(other.queues) == [1, ANYWHERE, offers.queue("old")]
    assert waiting(backlog, ANYWHERE) == ["a", "a"]
    assert waiting(backlog, offers.queue("new")) == ["new"]

    second = executor(1, "a", "new")
    assert second.catalogue is not None
    queues = offers.update(second.catalogue, [new, second], methods)
    assert methods.keys() == {"a", "new"}
    assert list(new.queues) == [0, ANYWHERE]
    assert [call.method for call in offers.sort(queues, backlog)] == ["old"], "nobody serves it any more"
    assert backlog.waiting == 0


def test_an_executor_that_is_away_takes_no_name_from_the_catalogue() -> None:
    offers, methods = Offers(), {"theirs": MethodInfo("theirs")}
    here = executor(0, "a")
    assert here.catalogue is not None
    assert offers.update(here.catalogue, [here, executor(1)], methods) == []
    assert methods.keys() == {"a", "theirs"}
