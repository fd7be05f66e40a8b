"""A damaged recording is refused, missed or not measured; only a digit of a count can change what it says was used."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.capture.playback import Playback, insert
from pytest_tokenbudget.errors import ReplayMiss

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://api.openai.com/v1/chat/completions"


def body(text):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}


def interaction(text, input_tokens, output_tokens):
    answer = {
        "id": f"chatcmpl-{text}",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }
    return {
        "request": {
            "method": "POST",
            "uri": URL,
            "body": json.dumps(body(text)),
            "headers": {"content-type": ["application/json"]},
        },
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"content-type": ["application/json"]},
            "body": {"string": json.dumps(answer)},
        },
    }


DOCUMENT = {"interactions": [interaction("one", 90, 20), interaction("two", 70, 30)], "version": 1}
WHOLE = (160, 50)


def use(path: Path) -> tuple[int, int] | str:
    """Ask for both answers: their tokens; else ``refused``, ``missed`` or ``unmeasured``."""
    playback = Playback(path=path)
    with track_usage() as usage, insert(playback), httpx2.Client(trust_env=False) as client:
        try:
            for text in ("one", "two"):
                client.post(URL, json=body(text))
        except ReplayMiss:
            return "missed" if playback.misses else "refused"
        except Exception:
            return "broken off"  # what the client itself can't read
        if usage.unmeasured_requests or usage.estimated_requests or usage.requests != 2:
            return "unmeasured"
        return usage.input_tokens, usage.output_tokens


@pytest.mark.parametrize("version_first", [True, False])
def test_a_file_that_is_cut_anywhere_never_says_less_in_silence(tmp_path, version_first):
    path = tmp_path / "x.yaml"
    document = {"version": 1, "interactions": DOCUMENT["interactions"]} if version_first else DOCUMENT
    text = yaml.safe_dump(document, sort_keys=False)
    path.write_text(text, "utf-8")
    assert use(path) == WHOLE
    seen = set()
    for end in range(0, len(text.rstrip()), 3):
        path.write_text(text[:end], "utf-8")
        found = use(path)
        # Cut within its last scalar or after it, a file may be whole all the same.
        assert isinstance(found, str) or found == WHOLE, text[:end][-80:]
        seen.add(found)
    assert "refused" in seen
    assert not version_first or "missed" in seen  # YAML, with one recording of two


def test_a_changed_byte_changes_no_count_unless_it_is_a_digit_of_one(tmp_path):
    path = tmp_path / "x.yaml"
    text = yaml.safe_dump(DOCUMENT, width=10_000)
    digits = {
        place
        for match in re.finditer(r'"(?:prompt|completion|total)_tokens": (\d+)', text)
        for place in range(*match.span(1))
    }
    assert digits
    seen = set()
    for place in range(0, len(text), 2):
        for other in "0x\n:":
            if text[place] == other:
                continue
            path.write_text(text[:place] + other + text[place + 1 :], "utf-8")
            found = use(path)
            if place not in digits:
                assert isinstance(found, str) or found == WHOLE, (place, other, text[place - 40 : place + 5])
            seen.add(found)
    assert {"refused", "missed", "unmeasured", WHOLE} <= seen
