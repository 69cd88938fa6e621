"""The wire contract, free of IO: messages, errors, codecs. No socket, no clock, no task in here."""

WIRE_VERSION = "1"
"""Version of the wire contract (SPEC.md), independent of the product's version."""

SUBPROTOCOL = "trunkline.v1+json"
"""WebSocket subprotocol that names this contract; optional for plain JSON-RPC clients."""

REFUSAL_SUBPROTOCOL = "trunkline.refusal"
"""WebSocket subprotocol of a client that cannot read the HTTP answer which refuses an upgrade; see SPEC.md, 1."""
