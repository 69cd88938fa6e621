"""An OpenAI-compatible server for tests, with delays and faults."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.timing import PATIENCE, eventually

KEY = "sk-very-secret"
TOKENS = ["The", " cat", " sleeps", " [1]", "."]


class Endpoint:
    """An OpenAI-compatible server. ``mode`` is what it does with the next request."""

    def __init__(self) -> None:
        self.mode = "answer"
        self.tokens = TOKENS
        self.refuses: dict[str, str] = {}  # members of requests, and what is said of them
        self.usage: dict[str, int] | None = None
        self.requests: list[dict[str, Any]] = []
        self.authorization = ""
        self.sent: list[float] = []
        self.taken: int | None = None  # how many tokens have arrived, where each waits for those before it
        self.closed_early = False
        app = Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])
        config = uvicorn.Config(app, port=0, ws="none", lifespan="off", log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        eventually(lambda: self._server.started, "the endpoint listens")
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(PATIENCE)

    async def complete(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.authorization = request.headers["authorization"]
        if self.mode.isdecimal():
            error = {"error": {"message": f"refused: {KEY}"}}
            return JSONResponse(error, int(self.mode), headers={"retry-after": "3"})
        for member in self.refuses.keys() & self.requests[-1].keys():
            return JSONResponse({"error": {"message": self.refuses[member], "param": member}}, 400)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[str]:
        ended = False
        try:
            for token in self.tokens if self.mode != "empty" else []:
                self.sent.append(time.monotonic())
                yield self._event({"content": token})
                if self.mode == "silent":
                    await asyncio.sleep(PATIENCE)
                if self.mode == "broken":
                    raise ConnectionAbortedError
                if self.mode == "garbage":
                    yield "data: {not json\n\n"
                if self.mode == "error":
                    yield f"data: {json.dumps({'error': {'message': KEY, 'type': 'server_error'}})}\n\n"
                await asyncio.sleep(0.1 if self.taken is not None else 0.01)
                while self.taken is not None and self.taken < len(self.sent):
                    await asyncio.sleep(0.005)
            if self.mode != "cut":
                yield self._event(None if self.mode == "null delta" else {}, "stop")
            if self.usage is not None:
                yield self._event({}, choices=[], usage=self.usage)
            yield "data: [DONE]\n\n"
            ended = True
        finally:
            self.closed_early = not ended

    def _event(self, delta: dict[str, Any] | None, reason: str | None = None, **members: Any) -> str:
        event = {
            "id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }  # fmt: skip
        return f"data: {json.dumps(event | members)}\n\n"
