"""The modules that executors could not load: only their own methods are removed from the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

import msgspec

from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.catalogue import MethodInfo, ModuleFailure, not_loaded, pack_of
from trunkline_protocol.errors import ErrorCode, RpcError

logger = logging.getLogger("trunkline.executors")


class FailedModules:
    """Keeps track of failed modules, and of the methods that are not served because of them.

    Args:
        executors: whose failures count.
        methods: the methods that the pool serves, by name; those that no executor serves any more are removed.
    """

    def __init__(self, executors: Sequence[ExecutorHandle], methods: dict[str, MethodInfo]) -> None:
        self._executors = executors
        self._methods = methods

    def found(self, handle: ExecutorHandle, failed: list[ModuleFailure]) -> None:
        """Note the modules that an executor could not load."""
        told = {failure.words for failure in self.all()}
        handle.failed_modules = failed
        for failure in failed:
            if failure.words not in told:  # executors fail alike, each time that they start
                logger.error("executor %d: %s", handle.index, failure.words)
        catalogues = [other.catalogue for other in self._executors if other.catalogue is not None]
        served = {info.name for catalogue in catalogues for info in catalogue.methods}
        packs = {pack_of(failure.module) for failure in failed}
        for name in [name for name, info in self._methods.items() if info.pack in packs and name not in served]:
            del self._methods[name]

    def nothing_loaded(self, handle: ExecutorHandle, error: RpcError) -> None:
        """Note that an executor could load no module, and exits."""
        handle.load_failure = handle.last_failure = error.message
        handle.sources = msgspec.convert(error.data.get("sources", {}), dict[str, int])
        self.found(handle, msgspec.convert(error.data.get("failed", []), list[ModuleFailure]))

    def unknown(self, method: str) -> RpcError:
        """The error for a method that the pool does not serve."""
        starting = bool(self._executors) and not self._methods
        failures = (handle.last_failure for handle in self._executors)
        failed = self.all()
        space = method.partition(".")[0] + "."
        if any(name.startswith(space) for name in self._methods):  # a loaded module has methods with this prefix
            failed = [failure for failure in failed if method in failure.methods]
        return unknown_method(method, starting, failures, failed)

    def all(self) -> list[ModuleFailure]:
        """The failures, one per module: all executors normally fail alike."""
        return list({each.module: each for handle in self._executors for each in handle.failed_modules}.values())


def unknown_method(
    method: str, starting: bool, failures: Iterable[str | None], failed: Collection[ModuleFailure]
) -> RpcError:
    """The error for a method that nobody serves.

    Args:
        starting: whether no executor serves anything yet.
        failures: of executors, which may be the reason.
        failed: modules that could not be loaded, which may contain the method.
    """
    if (unloaded := not_loaded(method, failed, alone=starting)) is not None:
        return unloaded
    if starting:
        failure = next((f" ({words})" for words in failures if words), "")
        return RpcError(
            ErrorCode.WORKER_UNAVAILABLE,
            f"{method} is not known yet: the executors are still starting{failure}",
            retry_after_ms=1000,
        )
    return RpcError(ErrorCode.METHOD_NOT_FOUND, f"no method {method!r:.200}; rpc.discover lists what this hub serves")
