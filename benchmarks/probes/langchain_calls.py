"""CPU seconds of a LangChain call, by orders on stdin: ``none``, ``ours`` or ``theirs``.

Orders: ``invoke N`` and ``ainvoke N`` answer with the seconds of one call, ``blocks N`` opens and closes N blocks.
A process for each, because a handler that was registered once stays.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import nullcontext

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage


def messages():
    usage = {"input_tokens": 11, "output_tokens": 4, "total_tokens": 15}
    while True:
        yield AIMessage("Hello there.", usage_metadata=usage, response_metadata={"model_name": "gpt-4o-mini"})


def opener(who: str):
    """What opens a block in which calls are tracked."""
    if who == "ours":
        from pytest_tokenbudget import track_usage

        return track_usage
    if who == "theirs":
        from langchain_core.callbacks import get_usage_metadata_callback

        return get_usage_metadata_callback
    return nullcontext


def invoke(model: GenericFakeChatModel, calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        model.invoke("Say hello")
    return (time.process_time() - began) / calls


async def ainvoke(model: GenericFakeChatModel, calls: int) -> float:
    await model.ainvoke("Say hello")
    began = time.process_time()
    for _ in range(calls):
        await model.ainvoke("Say hello")
    return (time.process_time() - began) / calls


def main(who: str) -> None:
    model = GenericFakeChatModel(messages=messages())
    block = opener(who)
    for line in sys.stdin:
        order, count = line.split()
        if order == "blocks":
            for _ in range(int(count)):
                with block():
                    pass
            print(0, flush=True)
            continue
        with block() as tracked:
            seconds = invoke(model, int(count)) if order == "invoke" else asyncio.run(ainvoke(model, int(count)))
            if who == "ours" and tracked.input_tokens < 11 * int(count):
                raise SystemExit("not every call was tracked")
        print(seconds, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
