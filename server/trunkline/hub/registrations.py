"""Methods that clients serve: who registers which name, whose it is, and how long it stays known without a client.

To callers, and to methods that call others, a registered method is like any other. A name belongs to the tenant of who
registers it, unless all tenants have it in common; tenants serve the same name without meeting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import msgspec
from typing_extensions import override

from trunkline import defaults
from trunkline.hub.callee_calls import CalleeCalls
from trunkline.hub.callee_schemas import described, require_schema_room, schema_bytes
from trunkline.hub.callees import Callee, KeptMethod, ServedMethod, contract, owner_of
from trunkline.hub.connection import ClientCall, Connection
from trunkline.hub.dispatch import Handlers, answering_connection
from trunkline.hub.held_registrations import HeldRegistrations
from trunkline.hub.principal import CALLEE, Principal
from trunkline.hub.registering import require_right
from trunkline_protocol.backlog import QueueLimits
from trunkline_protocol.calls import CallBackend
from trunkline_protocol.catalogue import CLIENT_PACK, MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_messages import Registered, RegisterParams, Unregistered, UnregisterParams
from trunkline_protocol.hub_methods import METHOD_REGISTER, METHOD_UNREGISTER, reserved
from trunkline_protocol.tenants import SharedNames, name_in

MAX_REGISTRATIONS: Final = 256
"""Methods that one connection may register."""

MAX_VACANT: Final = 4096
"""Methods without a callee that stay known for their grace; beyond it names are forgotten at once."""

_encoder: Final = msgspec.json.Encoder()


class Registrations(CalleeCalls):
    """The registrations of clients, and the backend of all calls.

    Args:
        executors: the backend of other methods; names of its methods cannot be registered.
        queue_limits: of calls that wait for callees, counted apart from those that wait for executors.
        shared: the names that all tenants have in common.
        grace: seconds that a method stays known, and its calls wait, when its last callee has disconnected or drains.

    Attributes:
        grace: the same; may be changed.
    """

    def __init__(
        self,
        executors: CallBackend,
        queue_limits: QueueLimits | None = None,
        grace: float = defaults.CALLEE_GRACE,
        shared: SharedNames | None = None,
    ) -> None:
        super().__init__(executors, shared or SharedNames(), queue_limits or QueueLimits())
        self.grace = grace
        self._vacant: dict[str, asyncio.TimerHandle] = {}
        self._of_connection: dict[Connection, dict[str, Callee]] = {}
        self._held = HeldRegistrations(self._register)

    def methods(self) -> Handlers:
        """Handlers of ``method.register`` and ``method.unregister``."""
        registering = answering_connection(METHOD_REGISTER, self._register)
        return registering | answering_connection(METHOD_UNREGISTER, self._unregister)

    def infos(self, tenant: str) -> list[MethodInfo]:
        """The catalogue entries of the methods that clients serve now to a tenant."""
        key = self._shared.key
        methods = self._methods.values()
        return [registered.info for registered in methods if key(tenant, registered.info.name) == registered.key]

    def kept(self) -> list[KeptMethod]:
        """The methods that clients serve now, for the next hub."""
        return [KeptMethod(registered.info, registered.owner) for registered in self._methods.values()]

    def may_keep(self, connection: Connection, principal: Principal) -> bool:
        """Whether a connection would still be allowed to register all that it serves, as this principal."""
        own = self._of_connection.get(connection, {})
        return not own or (principal.has_role(CALLEE) and all(principal.may_register(name_in(key)) for key in own))

    def executors_changed(self) -> None:
        """Decide on registrations that came before it was known what the executors serve."""
        self._held.executors_changed()

    def presence(self) -> dict[str, bool]:
        """The keys of the methods, and whether one of their clients is connected: else they wait to be resumed."""
        return {
            key: any(connection.is_attached for connection in registered.callees)
            for key, registered in self._methods.items()
        }

    @property
    def ejected(self) -> int:
        """How many callees get no calls for a while, because theirs fail where others' do not."""
        now = time.monotonic()
        methods = self._methods.values()
        return sum(callee.standing.is_ejected(now) for method in methods for callee in method.callees.values())

    # --- registering ---

    def _register(self, call: ClientCall, params: RegisterParams) -> None:
        connection, name = call.connection, params.method
        require_right(connection.principal, params)
        key = self._shared.key(connection.principal.tenant, name)
        if key not in self._methods and (starting := self._not_known_yet(name)) is not None:
            self._held.hold(call, params, starting)
            return
        if self._is_executors(name):
            words = f"method.register: {name} is a method of the executors; register another name"
            raise RpcError(ErrorCode.FORBIDDEN, words)
        own = self._of_connection.setdefault(connection, {})
        others = sum(not callee.is_leaving for other, callee in own.items() if other != key)
        if others >= MAX_REGISTRATIONS:
            raise RpcError(ErrorCode.RESOURCE_EXHAUSTED, f"a connection registers at most {MAX_REGISTRATIONS} methods")
        if key not in own:
            connection.require_registration()
        info, size = described(params), schema_bytes(params)
        if size:
            require_schema_room(self._methods, key, size)
        registered = self._served_with(connection, key, info)
        registered.describe(info, size)  # what the new version of a service says is true now
        callee = own.get(key)
        if callee is None:
            callee = own[key] = Callee(connection, params.max_concurrency)
            connection.share.registrations += 1
        registered.callees[connection] = callee
        if (vacancy := self._vacant.pop(key, None)) is not None:
            vacancy.cancel()
        callee.is_leaving = False
        callee.tell_drained(name)
        callee.limit = params.max_concurrency
        call.settle_result(_encoder.encode(Registered(name, len(registered.callees))))
        self.refill(registered)

    def _served_with(self, connection: Connection, key: str, info: MethodInfo) -> ServedMethod:
        """The method that a connection is to serve, with those that serve it already, or without any.

        Raises:
            RpcError: 6002, another principal serves it; -32602, others serve it in another way.
        """
        registered = self._methods.get(key)
        if registered is not None:
            registered.require_owner(connection.principal)
        if registered is not None and contract(registered.info) != contract(info):
            for callee in tuple(registered.callees.values()):
                callee.connection.give_way()
            if registered.callees:
                raise registered.disagreement()
            self._withdraw(key)
            registered = None
        if registered is None:
            registered = self._methods[key] = ServedMethod(key, info, owner_of(connection.principal))
        return registered

    def _not_known_yet(self, name: str) -> RpcError | None:
        """Why it is not known yet whether a method is one of the executors; None where it is known."""
        try:
            self._executors.find(name)
        except RpcError as error:
            return error if error.code == ErrorCode.WORKER_UNAVAILABLE else None
        return None

    def _is_executors(self, name: str) -> bool:
        try:
            return self._executors.find(name).pack != CLIENT_PACK
        except RpcError as error:
            unknown = (ErrorCode.METHOD_NOT_FOUND, ErrorCode.WORKER_UNAVAILABLE)
            return error.code not in unknown and error.data.get("known") is True  # its module failed to load

    def _unregister(self, call: ClientCall, params: UnregisterParams) -> None:
        connection, name = call.connection, params.method
        key = self._shared.key(connection.principal.tenant, name)
        callee = self._of_connection.get(connection, {}).get(key)
        serves = callee is not None and not callee.is_leaving
        if callee is not None and serves:
            callee.is_leaving = True
            if params.drain:
                callee.drained = call
            self._leave(key, connection, for_good=not params.drain)
            self.free(callee, key)
        if not (serves and params.drain):
            call.settle_result(_encoder.encode(Unregistered(name, serves)))

    @override
    def free(self, callee: Callee, key: str) -> None:
        if callee.is_leaving and not callee.running:
            if self._of_connection.get(callee.connection, {}).pop(key, None) is not None:
                callee.connection.share.registrations -= 1
            callee.tell_drained(name_in(key))

    def _leave(self, key: str, connection: Connection, *, for_good: bool) -> None:
        """Give a callee no more calls of a method; calls that it runs may finish.

        Args:
            for_good: where nobody else serves the method, it is unknown from now on.
        """
        registered = self._methods[key]
        registered.callees.pop(connection, None)
        if registered.callees:
            self.refill(registered)
        elif for_good:
            self._withdraw(key)
        else:  # a service that is restarted serves it again at once
            self._vacate(key)

    def _vacate(self, key: str) -> None:
        if not self.grace or len(self._vacant) >= MAX_VACANT:
            self._withdraw(key)
        else:
            self._vacant[key] = asyncio.get_running_loop().call_later(self.grace, self._withdraw, key)

    def expect(self, methods: Iterable[KeptMethod]) -> None:
        """Hold methods vacant: clients served them at the hub before this one, and are about to come back."""
        for kept in methods:
            _, tenant = kept.owner
            key = self._shared.key(tenant, kept.info.name)
            if key not in self._methods and reserved(kept.info.name) is None:
                self._methods[key] = ServedMethod(key, kept.info, kept.owner)
                self._vacate(key)

    def _withdraw(self, key: str) -> None:
        """Forget a method that nobody serves, and end the calls that wait for it."""
        if (vacancy := self._vacant.pop(key, None)) is not None:
            vacancy.cancel()
        self._methods.pop(key, None)
        self.end_waiting(key)

    @override
    def gone(self, connection: Connection) -> None:
        own = self._of_connection.pop(connection, {})
        connection.share.registrations -= len(own)
        for key, callee in own.items():
            if not callee.is_leaving:
                self._leave(key, connection, for_good=False)
            self.lost(callee)

    def changed(self, connection: Connection) -> None:
        """Offer waiting calls again: the client of these registrations has resumed its session, or was detached."""
        for key in tuple(self._of_connection.get(connection, ())):
            self.refill_method(key)
