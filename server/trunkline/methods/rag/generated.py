"""Answers written by a language model behind an OpenAI-compatible endpoint, token by token as they arrive.

Of several endpoints the next one is asked where one fails before its first word. What it had begun is an error: another
one would begin anew, in other words.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from trunkline import Context, ErrorCode, RpcError
from trunkline.methods.rag.bill import Bill
from trunkline.methods.rag.blocks import headings_of
from trunkline.methods.rag.citations import CheckedCitations
from trunkline.methods.rag.endpoints import Endpoint, without_secrets
from trunkline.methods.rag.llm_tokens import count_tokens
from trunkline.methods.rag.retrieval import Document, Part, RagRun
from trunkline.methods.rag.spending import Spending, until_tomorrow_ms

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

SILENCE: Final = 60.0
"""Seconds without a byte after which the endpoint is given up."""
CHARACTERS_A_TOKEN: Final = 4
"""For the cost of an answer whose endpoint does not say how many tokens there were."""
MAX_RANK: Final = 9999
"""What brackets may name where an answer is no answer from documents: they are no citations."""
TOLD_CAUSES: Final = frozenset({400, 404, 413, 422, 429})
"""The statuses whose cause is in the request: its words are passed on, without secrets."""

INSTRUCTIONS: Final = (
    "Answer the question from the numbered passages only. Cite passages like [1]. "
    "If they do not hold the answer, say so."
)

logger = logging.getLogger("trunkline.rag")


class OpenAIGenerator:
    """Streams chat completions.

    Args:
        endpoints: in the order in which they are tried, at least one.
        spending: where costs are added up.
    """

    def __init__(self, endpoints: Sequence[Endpoint], spending: Spending) -> None:
        import openai

        self.name = endpoints[0].model
        self._openai = openai
        self._endpoints = endpoints
        self._spending = spending
        self._secrets = [each.api_key for each in endpoints if each.api_key]
        # Retrying is the caller's business: it knows what it has already read, and how long it can wait.
        self._clients = {
            each.name: openai.AsyncOpenAI(
                base_url=each.base_url, api_key=each.api_key or "none", max_retries=0, timeout=SILENCE
            )
            for each in endpoints
        }
        self._bills: WeakKeyDictionary[Context, Bill] = WeakKeyDictionary()

    async def close(self) -> None:
        """Close the connections to the endpoints."""
        for client in self._clients.values():
            await client.close()

    async def parts(self, run: RagRun, ctx: Context) -> AsyncGenerator[Part, None]:
        """Yield a part for each piece the endpoint sends. Closing this closes the HTTP stream.

        Raises:
            RpcError: of the last endpoint that was tried: 5001, not reached; 1002, silent for too long; 3003, any other
                fault of it; 2003, the day's budget is spent; 1001, all have failed before, and are not tried for now.
        """
        failure: RpcError | None = None
        for endpoint in await self._affordable():
            try:
                async with aclosing(self._from(endpoint, run, ctx)) as parts:
                    async for part in parts:
                        yield part
            except RpcError as error:
                endpoint.failed(time.monotonic())
                if run.answer:
                    raise
                failure = error
                tried = {"endpoint": endpoint.name, "code": error.code, "message": error.message}
                run.details.setdefault("tried", []).append(tried)
                continue
            endpoint.succeeded()
            return
        raise failure or self._none_to_try()

    async def _affordable(self) -> list[Endpoint]:
        """The endpoints that are tried now.

        Raises:
            RpcError: 2003, the others cost something, and the budget is spent; 5001, what was spent cannot be read.
        """
        now = time.monotonic()
        ready = [each for each in self._endpoints if not each.is_open(now)]
        budget = self._spending.budget
        if not budget or not any(each.is_priced for each in ready):
            return ready
        spent = await asyncio.to_thread(self._spending.spent)
        if spent < budget:
            return ready
        free = [each for each in ready if not each.is_priced]
        if not free:
            raise RpcError(
                ErrorCode.RESOURCE_EXHAUSTED,
                f"the day's budget for language models is spent: {spent:.4g} of {budget:.4g} (TRUNKLINE_LLM_BUDGET)",
                retry_after_ms=until_tomorrow_ms(),
                maybe_executed=False,
            )
        return free

    def _none_to_try(self) -> RpcError:
        waits = min(each.waits(time.monotonic()) for each in self._endpoints)
        words = "no endpoint of a language model is tried for now: each has failed several times in a row"
        return RpcError(ErrorCode.WORKER_UNAVAILABLE, words, retry_after_ms=max(1, round(1000 * waits)))

    async def _from(self, endpoint: Endpoint, run: RagRun, ctx: Context) -> AsyncGenerator[Part, None]:
        """The answer of one endpoint; what is known of it afterwards is in the run's details.

        Raises:
            RpcError: see :meth:`parts`.
        """
        citations = CheckedCitations(len(run.documents) if run.messages is None else MAX_RANK)
        completion = _Completion(endpoint)
        began = False
        try:
            stream = await self._begin(endpoint, run)
            began = True
            async with stream:
                async for event in stream:
                    if text := citations.feed(completion.take(event)):
                        yield Part(text)
            if rest := citations.end():
                yield Part(rest)
        except RpcError:
            raise
        except Exception as error:  # the stream lets errors of the HTTP library and of JSON through
            raise self._typed(endpoint, error, began, run) from error
        finally:
            if began:
                await self._settle(endpoint, completion, run, ctx)
        if completion.reason is None:
            words = f"{_named(endpoint)} ended its answer without a finish_reason: it was cut off"
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, words, data=_partial(run))
        run.details["finish_reason"] = completion.reason
        if citations.unknown:
            run.details["unknown_citations"] = citations.unknown
        if not run.answer:
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, f"{_named(endpoint)} sent no text")

    async def _begin(self, endpoint: Endpoint, run: RagRun) -> Any:
        """The endpoint's stream: asked again where it refuses how its parameters are called, or to tell its tokens."""
        create: Callable[..., Any] = self._clients[endpoint.name].chat.completions.create
        refused: Exception | None = None
        while True:
            members = endpoint.request(run.params.max_tokens, run.params.temperature)
            if refused is not None:
                members.pop("stream_options")
            known = {name: members.pop(name) for name in _OWN_MEMBERS & members.keys()}
            try:
                stream = await create(
                    model=endpoint.model, messages=prompt(run), stream=True, extra_body=members or None, **known
                )
            except (self._openai.BadRequestError, self._openai.UnprocessableEntityError) as error:
                if endpoint.learn(str(error.body), known | members):
                    continue
                if "stream_options" not in known:
                    raise refused or error from None
                refused = error  # some do not say what it is that they do not know
                continue
            if refused is not None:
                endpoint.refused.add("stream_options")
            return stream

    async def _settle(self, endpoint: Endpoint, completion: _Completion, run: RagRun, ctx: Context) -> None:
        """Note which endpoint has written, and what it cost."""
        run.generator = endpoint.model
        run.details["endpoint"] = endpoint.name
        tokens_in, tokens_out, is_told = completion.tokens(run)
        count_tokens(ctx, tokens_in, tokens_out, told=is_told)
        cost = endpoint.cost(tokens_in, tokens_out) if endpoint.is_priced else None
        run.details |= self._bills.setdefault(ctx, Bill()).add(tokens_in, tokens_out, cost, told=is_told)
        if cost is not None:
            try:
                await asyncio.shield(asyncio.to_thread(self._spending.add, endpoint.name, cost))
            except RpcError as error:  # the answer is there, and paid
                logger.error(
                    "the cost of an answer was not added to the day's", extra={"cost": cost, "reason": error.message}
                )

    def _typed(self, endpoint: Endpoint, error: Exception, began: bool, run: RagRun) -> RpcError:
        """The RpcError for an error.

        Args:
            began: the endpoint had begun to answer.
        """
        named = _named(endpoint)
        if isinstance(error, self._openai.APITimeoutError):
            words = f"{named} was silent for {SILENCE:.0f} s"
            return RpcError(ErrorCode.COMMUNICATION_TIMEOUT, words, data=_partial(run))
        if isinstance(error, self._openai.APIConnectionError) and not began:
            return RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, f"{named} cannot be reached: is it running?")
        if isinstance(error, self._openai.APIStatusError):
            hint = {401: ": check TRUNKLINE_LLM_API_KEY", 404: ": check TRUNKLINE_LLM_MODEL and the URL's path"}
            status = error.status_code
            cause = f": {self._cause(error)}" if status in TOLD_CAUSES else ""
            return RpcError(
                ErrorCode.PIPELINE_EXECUTION_ERROR,
                f"{named} answered HTTP {status}{hint.get(status, '')}{cause}",
                retry_after_ms=_retry_after(error.response.headers.get("retry-after")),
                data={"http_status": status},
            )
        words = f"{named} broke off its answer ({type(error).__name__})"
        return RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, words, data=_partial(run))

    def _cause(self, error: Any) -> str:
        """The endpoint's own words, without secrets."""
        body = error.body
        said = body.get("message") if isinstance(body, dict) else None
        return without_secrets(str(said or body or "no cause is given"), self._secrets)


_OWN_MEMBERS: Final = {"max_tokens", "max_completion_tokens", "temperature", "stream_options"}
"""Members of a request that the library has as parameters; the others of the settings go beside them."""


class _Completion:
    """What is known of an answer from its events."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._usage: Any = None
        self._written = 0
        self.reason: str | None = None

    def take(self, event: Any) -> str:
        """The text of an event; some endpoints leave ``choices`` or ``delta`` out, or send null for them."""
        self._usage = event.usage or self._usage
        text = ""
        for choice in (event.choices or [])[:1]:
            text = (choice.delta.content if choice.delta is not None else None) or ""
            self.reason = choice.finish_reason or self.reason
        self._written += len(text)
        return text

    def tokens(self, run: RagRun) -> tuple[int, int, bool]:
        """Tokens read and written, and whether the endpoint told them, so that they are not estimates."""
        if self._usage is not None:
            return self._usage.prompt_tokens or 0, self._usage.completion_tokens or 0, True
        asked = sum(len(str(message["content"])) for message in prompt(run))
        return asked // CHARACTERS_A_TOKEN, self._written // CHARACTERS_A_TOKEN, False


def _named(endpoint: Endpoint) -> str:
    return f"the endpoint of {endpoint.name} (TRUNKLINE_LLM_*)"


def _partial(run: RagRun) -> dict[str, Any]:
    """What came before the answer was cut off."""
    return {"partial_answer": "".join(run.answer)} if run.answer else {}


def _retry_after(header: str | None) -> int | None:
    return int(header) * 1000 if header is not None and header.isdecimal() else None


def prompt(run: RagRun) -> list[ChatCompletionMessageParam]:
    """The messages for one question."""
    if run.messages is not None:
        return cast("list[ChatCompletionMessageParam]", run.messages)
    passages = "\n\n".join(f"[{document.rank}] {_shown(document)}" for document in run.documents)
    instructions = INSTRUCTIONS
    if run.options.language is not None:
        instructions += f" Answer in the language {run.options.language!r} (ISO 639-1)."
    return [
        {"role": "system", "content": f"{instructions}\n\n{run.params.instructions}".rstrip()},
        {"role": "user", "content": f"Passages:\n\n{passages}\n\nQuestion: {run.query}"},
    ]


def _shown(document: Document) -> str:
    """A passage behind its title, headings and source, as far as they are known."""
    title, source = (document.metadata.get(name) for name in ("title", "source"))
    path = [each for each in (title, *headings_of(document.metadata)) if isinstance(each, str) and each]
    place = " > ".join(dict.fromkeys(path))
    known = [place, f"(source: {source})"] if isinstance(source, str) else [place]
    above = " ".join(filter(None, known))
    return f"{above}\n{document.text}" if above else document.text
