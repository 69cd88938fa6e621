"""The modules that executors could not load: only their own methods are removed from the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from trunkline.executors.groups import Routes
from trunkline.executors.handle import ExecutorHandle
from trunkline_protocol.catalogue import ModuleFailure, not_loaded, pack_of
from trunkline_protocol.errors import ErrorCode, RpcError

HOPELESS_AFTER: Final = 2
"""Processes of a group that have ended before they were ready, after which calls are told the cause, not to wait."""

logger = logging.getLogger("trunkline.executors")


class FailedModules:
    """Keeps track of failed modules, and of the methods that are not served because of them.

    Args:
        executors: whose failures count.
        routes: the methods that the pool serves; those that no executor of a group serves any more are removed.
    """

    def __init__(self, executors: Sequence[ExecutorHandle], routes: Routes) -> None:
        self._executors = executors
        self._routes = routes
        self._told: set[str] = set()

    def found(self, handle: ExecutorHandle, failed: list[ModuleFailure]) -> None:
        """Note the modules that an executor could not load."""
        handle.failed_modules = failed
        for failure in failed:
            if failure.words not in self._told:  # executors fail alike, each time that they start
                logger.error("%s: %s", handle.name, failure.words)
        self._told = {failure.words for failure in self.all()}
        if failed:
            self._routes.drop({pack_of(failure.module) for failure in failed})

    def nothing_loaded(self, handle: ExecutorHandle, error: RpcError) -> None:
        """Note that an executor could load no module, and exits."""
        handle.load_failure = handle.last_failure = error.message
        handle.sources = msgspec.convert(error.data.get("sources", {}), dict[str, int])
        self.found(handle, msgspec.convert(error.data.get("failed", []), list[ModuleFailure]))

    def ended(self, handle: ExecutorHandle, cause: str) -> None:
        """Note that a process has ended; if its group was never ready, its modules count as failed from the second on.

        What ends before it can say anything is no less broken than what says so: another interpreter without trunkline,
        a library that crashes when it is imported.
        """
        group = next(each for each in self._routes.groups if each.name == handle.group)
        if handle.restarts >= HOPELESS_AFTER and not group.has_told:
            modules = group.spec.executor.modules
            code = ErrorCode.PIPELINE_INITIALIZATION_FAILED
            self.found(handle, [ModuleFailure(pack_of(module), code, cause) for module in modules])

    def unknown(self, method: str) -> RpcError:
        """The error for a method that the pool does not serve."""
        methods = self._routes.methods
        failed = self.all()
        space = method.partition(".")[0] + "."
        if any(name.startswith(space) for name in methods):  # a loaded module has methods with this prefix
            failed = [failure for failure in failed if method in failure.methods]
        unloaded = not_loaded(method, failed, alone=not methods)
        starting = self._routes.starting()
        if unloaded is not None and (unloaded.data["known"] or not starting):
            return unloaded
        if starting:
            failures = (handle.last_failure for group in starting for handle in group.executors)
            failure = next((f" ({words})" for words in failures if words), "")
            return RpcError(
                ErrorCode.WORKER_UNAVAILABLE,
                f"{method} is not known yet: the executors are still starting{failure}",
                retry_after_ms=1000,
            )
        return RpcError(
            ErrorCode.METHOD_NOT_FOUND, f"no method {method!r:.200}; rpc.discover lists what this hub serves"
        )

    def all(self) -> list[ModuleFailure]:
        """The failures, one per group and module: all executors of a group normally fail alike."""
        groups = dict.fromkeys(handle.group for handle in self._executors)
        return [failure for group in groups for failure in self.of(group)]

    def of(self, group: str) -> list[ModuleFailure]:
        """The failures of one group."""
        own = (handle for handle in self._executors if handle.group == group)
        return list({each.module: each for handle in own for each in handle.failed_modules}.values())
