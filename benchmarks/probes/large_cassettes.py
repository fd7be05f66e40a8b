"""CPU seconds of one request, matched on its body, in a cassette of N interactions: ``WHO PATH N REQUESTS``."""

from __future__ import annotations

import gc
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx2
from suites import URL, body


def main(who: str, path: str, size: int, requests: int) -> None:
    with ExitStack() as stack:
        if who == "ours":
            from pytest_tokenbudget.capture import attach
            from pytest_tokenbudget.capture.playback import Playback, insert

            attach.attach()
            stack.enter_context(insert(Playback(path=Path(path))))
        else:
            import vcr

            matchers = ("method", "scheme", "host", "port", "path", "query", "body")
            stack.enter_context(vcr.VCR(record_mode="none", match_on=matchers).use_cassette(path))
        client = stack.enter_context(httpx2.Client())
        post(client, 0)  # the cassette is loaded now
        gc.collect()
        step = (size - 1) / requests
        numbers = sorted({1 + int(step * each) for each in range(requests)})
        print(median(post(client, number) for number in numbers))


def post(client: httpx2.Client, number: int) -> float:
    began = time.process_time()
    response = client.post(URL, content=body(number), headers={"content-type": "application/json"})
    seconds = time.process_time() - began
    if f"Hello {number}. " not in response.text:
        raise SystemExit(f"the answer to {number} is another's")
    return seconds


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
