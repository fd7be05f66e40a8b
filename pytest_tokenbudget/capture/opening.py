"""Opens what a playback names: our own player, or a cassette of vcrpy's where that is to record, match or filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.cassette_reader import read_bytes
from pytest_tokenbudget.capture.playback import DEFAULT_MATCH
from pytest_tokenbudget.capture.player import READ_IN_REPLAY, Player
from pytest_tokenbudget.capture.recorded import recorded_exchanges

if TYPE_CHECKING:
    from pytest_tokenbudget.capture.playback import Playback

_DECIDED_ELSEWHERE = ("record_mode", "cassette_library_dir", "path_transformer", "allowed_hosts", "path")
"""What a ``vcr_config`` says in vain: our own options, markers and layout do."""


def open_player(playback: Playback) -> Player:
    """Open the cassette that a playback names, with the user's ``vcr_config``.

    Raises:
        CassetteError: the file can't be used.
    """
    config = {name: value for name, value in dict(playback.configure()).items() if name not in _DECIDED_ELSEWHERE}
    named = config.pop("match_on", DEFAULT_MATCH)
    match_on = tuple(playback.match_on or named)  # a marker outdoes a fixture
    if config.get("serializer") == "json" and playback.path.suffix == ".yaml":
        playback.path = playback.path.with_name(playback.path.name.removesuffix(".yaml") + ".json")
    elif playback.path.suffix == ".json":
        config["serializer"] = "json"
    if not playback.live and match_on == DEFAULT_MATCH and _changes_nothing(config):
        path = str(playback.path)
        data = read_bytes(path)
        exchanges = () if data is None else recorded_exchanges(path, data)
        if exchanges is not None:
            return Player(playback, list(exchanges), is_missing=data is None)
    from pytest_tokenbudget.capture.cassette import open_cassette  # noqa: PLC0415 - imports vcrpy

    return open_cassette(playback, config, match_on)


def _changes_nothing(config: dict[str, Any]) -> bool:
    """Whether a replay is the same without a configuration: it says how cassettes are written, or hides headers."""
    for name, value in config.items():
        if name == "serializer" and value in ("yaml", "json"):
            continue
        hidden = () if value is None else value
        is_listed = name == "filter_headers" and isinstance(hidden, list | tuple)
        if not is_listed or not all(map(_hides_what_is_not_read, hidden)):
            return False
    return True


def _hides_what_is_not_read(hidden: Any) -> bool:
    """Whether an entry of ``filter_headers`` names a header that no request is recognised by, and runs nothing."""
    match hidden:
        case str(name) | (str(name), str() | None) if isinstance(
            hidden, str | tuple
        ):  # vcrpy takes no list for a pair
            return name.lower() not in READ_IN_REPLAY
    return False  # what it is, vcrpy knows
