"""A chat model of our own: no provider, no HTTP. It says what it used, as any LangChain model can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.messages import BaseMessage


class Parrot(BaseChatModel):
    """Repeats the last message, word by word; a word is a token."""

    model_name: str = "parrot-1"

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the base class calls it so
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - likewise
        **_: Any,
    ) -> ChatResult:
        heard, said = sum(len(message.text.split()) for message in messages), messages[-1].text
        spoken = len(said.split())
        message = AIMessage(
            content=said,
            usage_metadata={"input_tokens": heard, "output_tokens": spoken, "total_tokens": heard + spoken},
            response_metadata={"model_name": self.model_name},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])
