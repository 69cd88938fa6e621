"""Asks the language model for something other than the answer, for techniques: its endpoints, budget and all."""

from __future__ import annotations

from contextlib import aclosing

from trunkline import Context
from trunkline.methods.rag.retrieval import BasicParams, Generator, RagOptions, RagRun
from trunkline.methods.rag.techniques import basic
from trunkline.methods.techniques import declared


class Completing:
    """Completions by the generator that writes the answers.

    Args:
        generator: one with a language model.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def complete(self, ctx: Context, instructions: str, text: str, max_tokens: int) -> str:
        """What the model answers to a text.

        Raises:
            RpcError: that of the endpoints, as for an answer.
        """
        run = RagRun(declared(basic), text, RagOptions(), BasicParams(max_tokens=max_tokens), self._generator.name)
        run.messages = [{"role": "system", "content": instructions}, {"role": "user", "content": text}]
        async with aclosing(self._generator.parts(run, ctx)) as parts:
            async for part in parts:
                run.answer.append(part.text)
        return "".join(run.answer)
