"""Answers written by a language model behind an OpenAI-compatible endpoint, token by token as they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from trunkline import Context, ErrorCode, RpcError
from trunkline.methods.rag.llm_tokens import counted
from trunkline.methods.rag.retrieval import Part, RagRun

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

SILENCE: Final = 60.0
"""Seconds without a byte after which the endpoint is given up."""

INSTRUCTIONS: Final = (
    "Answer the question from the numbered passages only. Cite passages like [1]. "
    "If they do not hold the answer, say so."
)


class OpenAIGenerator:
    """Streams chat completions.

    Args:
        base_url: of the endpoint, for example ``http://127.0.0.1:8000/v1``.
        model: the name to ask for.
        api_key: None where the endpoint wants none.
    """

    def __init__(self, base_url: str, model: str, api_key: str | None) -> None:
        import openai

        self.name = model
        self._openai = openai
        # Retrying is the caller's business: it knows what it has already read, and how long it can wait.
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0, timeout=SILENCE)

    async def close(self) -> None:
        """Close the connections to the endpoint."""
        await self._client.close()

    async def parts(self, run: RagRun, ctx: Context) -> AsyncGenerator[Part, None]:
        """Yield a part for each piece the endpoint sends. Closing this closes the HTTP stream.

        Raises:
            RpcError: 5001, not reached; 1002, silent for too long; 3003, any other fault of the endpoint.
        """
        began = False
        try:
            stream = await counted(self._client, ctx)(
                model=self.name,
                messages=prompt(run),
                max_tokens=run.params.max_tokens,
                temperature=run.params.temperature,
                stream=True,
            )
            began = True
            async with stream:
                async for event in stream:
                    for choice in event.choices[:1]:
                        if choice.delta.content:
                            yield Part(choice.delta.content)
                        if choice.finish_reason:
                            run.details["finish_reason"] = choice.finish_reason
        except Exception as error:  # the stream lets errors of the HTTP library and of JSON through
            raise self._typed(error, began) from error
        if not run.answer:
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, f"the endpoint of {self.name} sent no text")

    def _typed(self, error: Exception, began: bool) -> RpcError:
        """The RpcError for an error. No text of the endpoint is passed on: it may repeat the key or the prompt.

        Args:
            began: the endpoint had begun to answer.
        """
        endpoint = f"the endpoint of {self.name} (TRUNKLINE_LLM_BASE_URL)"
        if isinstance(error, self._openai.APITimeoutError):
            return RpcError(ErrorCode.COMMUNICATION_TIMEOUT, f"{endpoint} was silent for {SILENCE:.0f} s")
        if isinstance(error, self._openai.APIConnectionError) and not began:
            return RpcError(ErrorCode.DATABASE_CONNECTION_ERROR, f"{endpoint} cannot be reached: is it running?")
        if isinstance(error, self._openai.APIStatusError):
            hint = {401: ": check TRUNKLINE_LLM_API_KEY", 404: ": check TRUNKLINE_LLM_MODEL and the URL's path"}
            return RpcError(
                ErrorCode.PIPELINE_EXECUTION_ERROR,
                f"{endpoint} answered HTTP {error.status_code}{hint.get(error.status_code, '')}",
                retry_after_ms=_retry_after(error.response.headers.get("retry-after")),
                data={"http_status": error.status_code},
            )
        return RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, f"{endpoint} broke off its answer ({type(error).__name__})")


def _retry_after(header: str | None) -> int | None:
    return int(header) * 1000 if header is not None and header.isdecimal() else None


def prompt(run: RagRun) -> list[ChatCompletionMessageParam]:
    """The messages for one question."""
    passages = "\n\n".join(f"[{document.rank}] {document.text}" for document in run.documents)
    return [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"Passages:\n\n{passages}\n\nQuestion: {run.query}"},
    ]
