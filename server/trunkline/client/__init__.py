"""The Python client: the same shape as the JavaScript one."""

from trunkline.client.hub import DisconnectedError, Hub, ResultStream, connect

__all__ = ["DisconnectedError", "Hub", "ResultStream", "connect"]
