"""What fan-out costs at least in Python: one ``socket.send`` of a ready frame for each subscriber. No protocol.

A subscriber says ``S`` and is told ``+``; whatever another connection sends goes to every subscriber.
"""

from __future__ import annotations

import selectors
import socket

CHUNK = 64 * 1024


def accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    connection, _address = listener.accept()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(connection, selectors.EVENT_READ)


def serve(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    subscribers: list[socket.socket] = []
    while True:
        for key, _events in selector.select():
            if key.fileobj is listener:
                accept(listener, selector)
                continue
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                data = connection.recv(CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                selector.unregister(connection)
                connection.close()
                subscribers = [subscriber for subscriber in subscribers if subscriber is not connection]
            elif data == b"S":
                subscribers.append(connection)
                connection.send(b"+")
            else:
                for subscriber in subscribers:
                    subscriber.send(data)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        print(f"listening on tcp://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        serve(listener, selector)


if __name__ == "__main__":
    main()
