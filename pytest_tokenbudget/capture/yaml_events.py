"""Read YAML as a stream of events, from which the document is built in the same pass. Importing this imports PyYAML.

That takes little memory, and cannot be made to run, loop or explode.
"""

from __future__ import annotations

import binascii
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import SafeConstructor

from pytest_tokenbudget.capture.refused import MAX_DEPTH, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

BINARY = "tag:yaml.org,2002:binary"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_events(text: str) -> Any:
    """The one document that a text holds: mappings with text as keys, lists and scalars.

    Raises:
        Refused: it holds something else, or more than that.
    """
    parser = _Loader(text)
    try:
        return _build(parser.get_event)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        mark = getattr(error, "problem_mark", None)
        if "nesting depth" in problem:  # newer ones of libyaml have a limit of their own, and look ahead
            problem = f"it is nested deeper than {MAX_DEPTH} levels"
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise Refused(f"it is cut short or not YAML ({problem}{where})") from error
    finally:
        parser.dispose()


def _build(next_event: Callable[[], Any]) -> Any:  # noqa: C901, PLR0912 - one loop over events, kept flat for its speed
    """Build the one document that the events describe: mappings with text as keys, sequences and scalars."""
    document: Any = None
    documents = 0
    around: list[tuple[Any, str | None]] = []  # the collections around the open one, with the key that waits in each
    open_: Any = None
    key: str | None = None
    while True:
        event = next_event()
        kind = type(event)
        if kind is yaml.ScalarEvent:
            if open_.__class__ is dict and key is None:
                key = _key(event, open_)
                continue
            value = _scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            _check_plain(event)
            if open_.__class__ is dict and key is None:
                raise Refused(f"a key is no text{_line(event)}")
            value = {} if kind is yaml.MappingStartEvent else []
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            open_, key = around.pop()
            continue
        elif kind is yaml.AliasEvent:
            raise Refused(f"it uses an anchor or alias{_line(event)}; save it again without")
        elif kind is yaml.StreamEndEvent:
            return document
        else:
            documents += kind is yaml.DocumentStartEvent
            if documents > 1:
                raise Refused("it holds more than one document")
            continue
        if open_ is None:
            if value.__class__ is not dict:
                raise Refused("its top level is no mapping")
            document = value
        elif key is None:
            open_.append(value)
        else:
            open_[key] = value
            key = None
        if kind is not yaml.ScalarEvent:
            around.append((open_, key))
            open_, key = value, None
            if len(around) > MAX_DEPTH:
                raise Refused(f"it is nested deeper than {MAX_DEPTH} levels{_line(event)}")


def _key(event: Any, mapping: dict[str, Any]) -> str:
    _check_plain(event)
    key: str = event.value
    if key == "<<":
        raise Refused(f"it uses a merge key{_line(event)}")
    if key in mapping:
        raise Refused(f"the key {key!r} stands twice in one mapping{_line(event)}")
    return key


def _scalar(event: Any) -> Any:
    if event.tag == BINARY and event.anchor is None:
        try:
            return binascii.a2b_base64("".join(event.value.split()), strict_mode=True)
        except ValueError as error:
            raise Refused(f"it holds broken base64{_line(event)}") from error
    _check_plain(event)
    if not event.implicit[0]:  # it is quoted, or a block
        return event.value
    try:
        return meaning_of(event.value)
    except (ValueError, OverflowError) as error:
        raise Refused(f"{event.value[:40]!r} can't be read{_line(event)}") from error


def _check_plain(event: Any) -> None:
    if event.anchor is not None:
        raise Refused(f"it uses an anchor or alias{_line(event)}; save it again without")
    if event.tag is not None:
        raise Refused(f"it uses the tag {event.tag}{_line(event)}")


@lru_cache(maxsize=1024)
def meaning_of(text: str) -> Any:
    """What a scalar without quotes says: a number, a truth value, nothing, a day, or just its text.

    Raises:
        ValueError: it says what there is not, such as a 13th month.
        OverflowError: likewise.
    """
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            construct = SafeConstructor.yaml_constructors.get(tag)
            return text if construct is None else construct(SafeConstructor(), yaml.ScalarNode(tag, text))
    return text


def _line(event: Any) -> str:
    return f" in line {event.start_mark.line + 1}"
