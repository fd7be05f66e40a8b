"""How many answers of ``ChatOpenAI.batch`` belong to another prompt: ``WHO PATH PROMPTS TRIALS``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from langchain_openai import ChatOpenAI
from suites import MODEL


def main(who: str, path: str, prompts: int, trials: int) -> None:
    print(sum(wrong_answers(who, path, prompts) for _ in range(trials)))


def wrong_answers(who: str, path: str, prompts: int) -> int:
    with ExitStack() as stack:
        if who == "ours":
            from pytest_tokenbudget.capture import attach
            from pytest_tokenbudget.capture.playback import Playback, insert

            attach.attach()
            stack.enter_context(insert(Playback(path=Path(path))))
        else:
            import vcr

            stack.enter_context(vcr.VCR(record_mode="none").use_cassette(path))
        model = ChatOpenAI(model=MODEL, max_retries=0)
        answers = model.batch([f"Say hello {number}" for number in range(prompts)])
    return sum(not each.content.startswith(f"Hello {number}. ") for number, each in enumerate(answers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
