"""Answers written by a language model behind an OpenAI-compatible endpoint, token by token as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from trunkline.methods.context import Context
from trunkline.methods.rag.retrieval import Run
from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

INSTRUCTIONS: Final = (
    "Answer the question from the numbered passages only. Cite passages like [1]. "
    "If they do not hold the answer, say so."
)


class GeneratedParams(BaseModel):
    """``technique_params`` of generated answers."""

    model_config = ConfigDict(extra="forbid")

    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 512
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


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
        # Retrying is the caller's business: it knows what it has already sent on.
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0)

    async def parts(self, run: Run, ctx: Context) -> AsyncIterator[dict[str, Any]]:
        """Yield ``{text}`` for each piece the endpoint sends.

        Raises:
            RpcError: 3003 with the endpoint's status; 1002 when it took too long.
        """
        params = GeneratedParams.model_validate(run.params)
        try:
            stream = await self._client.chat.completions.create(
                model=self.name,
                messages=prompt(run),
                max_tokens=params.max_tokens,
                temperature=params.temperature,
                stream=True,
            )
            async with stream:
                async for event in stream:
                    text = event.choices[0].delta.content if event.choices else None
                    if text:
                        yield {"text": text}
        except self._openai.APITimeoutError as error:
            raise RpcError(
                ErrorCode.COMMUNICATION_TIMEOUT, f"{self.name}: the endpoint did not answer in time"
            ) from error
        except self._openai.APIStatusError as error:
            message = f"{self.name}: the endpoint answered HTTP {error.status_code}"
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, message) from error
        except self._openai.OpenAIError as error:
            message = f"{self.name}: the endpoint failed ({type(error).__name__}); is TRUNKLINE_LLM_BASE_URL right?"
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, message) from error


def prompt(run: Run) -> list[ChatCompletionMessageParam]:
    """The messages for one question."""
    passages = "\n\n".join(f"[{document.rank}] {document.text}" for document in run.documents)
    return [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"Passages:\n\n{passages}\n\nQuestion: {run.query}"},
    ]
