"""What changed between a request and its recording, said in tokens and money; and the recording that comes nearest.

Needed only where no recording answers a request.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from pytest_tokenbudget.capture import wire
from pytest_tokenbudget.capture.estimate import count_prompt
from pytest_tokenbudget.capture.playback import record_command
from pytest_tokenbudget.capture.request_index import body_bytes
from pytest_tokenbudget.capture.scrub import scrub_path
from pytest_tokenbudget.capture.wire.exchange import Exchange
from pytest_tokenbudget.files import shown_from
from pytest_tokenbudget.record import ESTIMATED, RERECORD
from pytest_tokenbudget.usage import ModelCall, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from pathlib import Path

    from pytest_tokenbudget.capture.plain_request import PlainRequest
    from pytest_tokenbudget.capture.playback import Miss, Playback
    from pytest_tokenbudget.capture.player import Player
    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.pricing import PriceBook

COUNTED_AS = "gpt-4o"
FRAME = "frame"
"""Tokens of the chat format that belong to no message."""

ROLES = ("system", "user", "assistant", "tool", "tools")


def describe_misses(
    playback: Playback, misses: Sequence[Miss], *, nodeid: str, book: PriceBook, rootdir: Path
) -> list[str]:
    """One line for each request that no recording answered: what changed, and how to record it again.

    Args:
        playback: the cassette.
        misses: the requests.
        nodeid: the test, for the command.
        book: the prices, for what the change costs.
        rootdir: paths are shown from here.
    """
    rewrite = record_command(nodeid, "rewrite")
    path = shown_from(rootdir, playback.path)
    lines: dict[str, None] = {}
    for miss in misses:
        where = scrub_path(miss.url)
        if miss.reason == "missing":
            subject = nodeid or playback.path.stem
            line = (
                f"{subject} has no recording: {path} does not exist; record it with: {record_command(nodeid, 'once')}"
            )
        elif miss.reason == "played":
            line = (
                f"request {miss.number} to {where}: each recording of it in {path} has been played{RERECORD}{rewrite}"
            )
        else:
            change = _change(playback, miss, book)
            if miss.reason == "estimated":
                change += f"; {ESTIMATED}"
            line = f"request {miss.number} to {where}: {change}{RERECORD}{rewrite}"
        # A client that retries asks the same again.
        lines.setdefault(line)
    return list(lines)


def _change(playback: Playback, miss: Miss, book: PriceBook) -> str:
    now = _read(miss.method, miss.url, miss.body)
    if now is None or now.prompt is None:
        return "no recording answers it"
    nearest = _nearest(playback, miss, now)
    if nearest is None or nearest.prompt is None:
        return "no recording of this endpoint answers it"
    changes = []
    if nearest.request_model != now.request_model:
        changes.append(f"model {nearest.request_model} -> {now.request_model}")
    before, after = _tokens(nearest), _tokens(now)
    if before is None or after is None:
        return ", ".join([*changes, "its content changed in a way that can't be counted"])
    roles = [role for role in ROLES if before[role] or after[role] or _texts(nearest, role) != _texts(now, role)]
    changes += [_role_change(role, before[role], after[role], nearest, now) for role in roles]
    cost = _cost(book, now, after.total()), _cost(book, nearest, before.total())
    if all("unchanged" in change for change in changes):
        changes.append("its parameters changed")
    text = ", ".join(changes)
    return text if None in cost else f"{text}; {_money(cost[0] - cost[1])} a call"  # type: ignore[operator]


def _role_change(role: str, before: int, after: int, nearest: Reading, now: Reading) -> str:
    if after != before:
        return f"{role} {after - before:+,} tokens"
    same = _texts(nearest, role) == _texts(now, role)
    return f"{role} unchanged" if same else f"{role} changed (+0 tokens)"


class StandIn(NamedTuple):
    """A recording that answers a request which it is not the recording of.

    Attributes:
        place: where it stands in its cassette.
        input_tokens: how many more the request has than its own one, counted locally; fewer where negative.
    """

    place: int
    input_tokens: int


def find_stand_in(cassette: Player, request: PlainRequest) -> StandIn | None:
    """The recording of the same endpoint and model that comes nearest to a request.

    Returns:
        ``None`` where there is none, or where the difference of the two can't be counted.
    """
    now = _read(request.method, request.uri, body_bytes(request))
    if now is None or now.prompt is None:
        return None
    candidates = [
        (index, reading)
        for index, reading in _recorded(cassette, request.method, request.uri)
        if reading.request_model == now.request_model
    ]
    # Of two that are as near, the one that was not played yet.
    found = max(
        candidates, key=lambda each: (*_likeness(now, each[1]), not cassette.play_counts[each[0]]), default=None
    )
    if found is None:
        return None
    before, after = _tokens(found[1]), _tokens(now)
    return None if before is None or after is None else StandIn(found[0], after.total() - before.total())


def _nearest(playback: Playback, miss: Miss, now: Reading) -> Reading | None:
    """The recording of the same endpoint that has most in common with the request: its model, then its texts."""
    found = (reading for _, reading in _recorded(playback.cassette, miss.method, miss.url))
    return max(found, key=lambda reading: _likeness(now, reading), default=None)


def _recorded(cassette: Player, method: str, url: str) -> list[tuple[int, Reading]]:
    """The recordings of an endpoint, as far as their prompts can be read, with their places."""
    path = urlsplit(url).path
    known = _readings.setdefault(cassette, {})
    if (method, path) not in known:
        readings = (
            (index, _read(request.method, request.uri, body_bytes(request)))
            for index, (request, _) in enumerate(cassette.data)
            if request.method == method and urlsplit(request.uri).path == path
        )
        known[method, path] = [(index, each) for index, each in readings if each is not None and each.prompt]
    return known[method, path]


_readings: WeakKeyDictionary[Player, dict[tuple[str, str], list[tuple[int, Reading]]]] = WeakKeyDictionary()
"""What was read of the recordings of each cassette: a cassette that only replays does not change."""


def _likeness(now: Reading, recorded: Reading) -> tuple[bool, int, int]:
    """How near a recording is, for comparing: the same model, so many equal messages, so many equal words."""
    mine, theirs = ([part.text for part in each.prompt.parts] for each in (now, recorded) if each.prompt)
    words, their_words = (Counter(word for text in texts for word in text.split()) for texts in (mine, theirs))
    return (
        recorded.request_model == now.request_model,
        (Counter(mine) & Counter(theirs)).total(),
        (words & their_words).total() - (their_words - words).total(),
    )


def _read(method: str, url: str, body: bytes) -> Reading | None:
    return wire.read(Exchange(method=method, url=url, request_body=body, complete=False))


def _texts(reading: Reading, role: str) -> list[str]:
    return [] if reading.prompt is None else [part.text for part in reading.prompt.parts if part.role == role]


def _tokens(reading: Reading) -> Counter[str] | None:
    """The input by role, each counted by itself, so that what did not change counts the same before and after."""
    prompt = reading.prompt
    if prompt is None or prompt.opaque:
        return None
    for model in (reading.request_model or reading.model, COUNTED_AS):
        whole = count_prompt(prompt, model)
        if whole is None:
            # Another maker's tokenizer: the counts of OpenAI's own tell the size of a change well enough.
            continue
        frame = count_prompt(replace(prompt, parts=(), token_ids=0), model) or 0
        counts: Counter[str] = Counter()
        for role in {part.role for part in prompt.parts}:
            own = tuple(part for part in prompt.parts if part.role == role)
            counts[role] = (count_prompt(replace(prompt, parts=own, token_ids=0), model) or 0) - frame
        counts["user"] += prompt.token_ids
        counts[FRAME] = whole - counts.total()
        return counts
    return None


def _cost(book: PriceBook, reading: Reading, input_tokens: int) -> Decimal | None:
    model = reading.request_model or reading.model
    call = ModelCall(
        model=model, provider=reading.provider, usage=Usage(input_tokens=input_tokens), request_model=model
    )
    return book.cost(replace(call, service_tier=reading.service_tier))


def _money(difference: Decimal) -> str:
    sign = "-" if difference < 0 else "+"
    return f"{sign}${abs(difference).normalize():f}"
