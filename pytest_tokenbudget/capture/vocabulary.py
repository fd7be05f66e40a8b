"""tiktoken's encodings without the network: its vocabularies ship packed with this package.

tiktoken downloads a vocabulary when it is first used, which a replayed test must not do. Three rank tables cover all
of its encodings: ``p50k`` is ``r50k`` and 24 runs of blanks, ``gpt2`` is ``r50k``, and ``o200k_harmony`` is ``o200k``
with other special tokens. Patterns and special tokens are tiktoken's own, from the installed version.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.errors import TokenBudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    Constructor = Callable[[], dict[str, Any]]

    from tiktoken import Encoding

FOLDER = Path(__file__).parent / "vocabularies"
SEPARATOR = b"\xff"
"""Stands between tokens: the byte is never part of UTF-8, and a token of one byte needs no separator."""
SINGLE_BYTES = 256
TABLES = {"o200k_base": 199_998, "cl100k_base": 100_256, "r50k_base": 50_256}
"""The tables that ship, and how many tokens each holds."""
PUBLISHED_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
}
"""The vocabularies that were packed, as tiktoken names them by content."""
BLANK_RUN_RANKS = {b" " * length: 50_255 + length for length in range(2, 26)}
"""What p50k adds to r50k, for source code; 50,256 is the end of text."""
_TABLE_OF = {"gpt2": "r50k_base", "p50k_edit": "p50k_base", "o200k_harmony": "o200k_base"}

_SLICE = 400_000
"""Characters; tiktoken's regular expression gives up on runs of about a million blanks."""

_encodings: dict[str, Encoding] = {}
_building = threading.RLock()


class VocabularyError(TokenBudgetError):
    """A vocabulary is not one that ships, or its file is broken."""


def load_ranks(name: str) -> dict[bytes, int]:
    """Read the tokens of an encoding and their ranks, special tokens left out.

    Raises:
        VocabularyError: no such vocabulary ships, or its file can't be read.
    """
    table = _TABLE_OF.get(name, name)
    if table == "p50k_base":
        return load_ranks("r50k_base") | BLANK_RUN_RANKS
    if table not in TABLES:
        raise VocabularyError(f"no vocabulary {name!r} ships with pytest-tokenbudget; there are: {_list_names()}")
    path = FOLDER / name_file(table)
    try:
        ranks = unpack(path.read_bytes())
    except (OSError, zlib.error) as error:
        raise VocabularyError(f"the vocabulary {path} can't be read: {error}; reinstall the package") from error
    if len(ranks) != TABLES[table]:
        raise VocabularyError(f"the vocabulary {path} holds {len(ranks)} tokens instead of {TABLES[table]}")
    return ranks


def name_file(table: str) -> str:
    """Return the file name of a packed table."""
    return f"{table}.bpe.z"


def unpack(packed: bytes) -> dict[bytes, int]:
    """Return tokens and ranks of a packed table: rank and position are the same."""
    content = zlib.decompress(packed)
    tokens = [content[at : at + 1] for at in range(SINGLE_BYTES)]
    tokens += content[SINGLE_BYTES:].split(SEPARATOR)
    return dict(zip(tokens, range(len(tokens)), strict=True))


def get_encoding(name: str) -> Encoding:
    """Return one of tiktoken's encodings, built in memory on first use, once per process.

    Raises:
        VocabularyError: no such vocabulary ships.
    """
    encoding = _encodings.get(name)
    if encoding is None:
        with _building:
            encoding = _encodings.get(name)
            if encoding is None:
                from tiktoken import Encoding  # noqa: PLC0415 - slow, and most runs never estimate

                encoding = _encodings[name] = Encoding(**describe_encoding(name))
    return encoding


def describe_encoding(name: str) -> dict[str, Any]:
    """Return what tiktoken builds an encoding from: its own pattern and special tokens, and our ranks.

    Raises:
        VocabularyError: no such vocabulary ships, or the installed tiktoken expects another one under that name.
    """
    constructor = _load_definitions().get(name)
    if constructor is None:
        raise VocabularyError(f"tiktoken has no encoding {name!r}; those that ship: {_list_names()}")
    described: dict[str, Any] = constructor()
    return described


def count_tokens(text: str, encoding_name: str) -> int:
    """Count the tokens of a text; what looks like a special token counts as the plain text it is.

    The count is tiktoken's. Only where that gives up, on runs of about a million blanks, the text is counted in
    slices, and each cut may add a token.

    Raises:
        VocabularyError: no such vocabulary ships.
    """
    encoding = get_encoding(encoding_name)
    try:
        return len(encoding.encode(text, disallowed_special=()))
    except BaseException as error:
        # Newer versions raise a ValueError; older ones a panic of Rust's, a BaseException of no importable class.
        gave_up = isinstance(error, ValueError) or type(error).__name__ == "PanicException"
        if not gave_up or len(text) <= _SLICE:
            raise
    return sum(
        len(encoding.encode(text[at : at + _SLICE], disallowed_special=())) for at in range(0, len(text), _SLICE)
    )


class _Service:
    """What stands in tiktoken's registry while at least one user of it is to be served from our files."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.table: object = None
        self.pairs: tuple[tuple[str, Constructor, Constructor], ...] = ()

    def enter(self, registry: Any) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self._install(registry)

    def leave(self, registry: Any) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self._remove(registry)

    def _install(self, registry: Any) -> None:
        with registry._lock:  # noqa: SLF001 - a constructor must not change while another thread builds from it
            registry._find_constructors()  # noqa: SLF001 - tiktoken fills the table on first use
            table = registry.ENCODING_CONSTRUCTORS
            if table is not self.table:  # looked through once, for each replayed test comes here
                self.table, self.pairs = table, tuple(_pairs_of(table))
            for name, theirs, ours in self.pairs:
                if table.get(name) is theirs:
                    table[name] = ours

    def _remove(self, registry: Any) -> None:
        with registry._lock:  # noqa: SLF001 - as above
            table = registry.ENCODING_CONSTRUCTORS or {}
            for name, theirs, ours in self.pairs:
                if table.get(name) is ours:
                    table[name] = theirs


def _pairs_of(table: Mapping[str, Constructor]) -> Iterator[tuple[str, Constructor, Constructor]]:
    """Each encoding of tiktoken's own that ships here: its name, tiktoken's constructor and ours."""
    known = {*TABLES, *PUBLISHED_SHA256, *_TABLE_OF}
    for name, theirs in table.items():
        # A vocabulary of a plugin of tiktoken's is its own, whatever it is called.
        if theirs.__module__ == "tiktoken_ext.openai_public" and name in known:
            yield name, theirs, functools.partial(describe_encoding, name)


_service = _Service()


def serve_offline(registry: ModuleType) -> Callable[[], None]:
    """Let the user's own ``tiktoken.get_encoding`` build from the vocabularies that ship here, without a download.

    Nothing is built until it is asked for. Encodings that the user's code has built already stay, and those it builds
    meanwhile stay too: they are the same. May be called again while it holds, from any thread; it ends when every
    caller has undone it.

    Args:
        registry: the module ``tiktoken.registry``.

    Returns:
        The undo; calling it twice does nothing more.
    """
    _service.enter(registry)
    to_undo = [registry]

    def undo() -> None:
        try:
            served = to_undo.pop()
        except IndexError:
            return
        _service.leave(served)

    return undo


@contextlib.contextmanager
def offline_tiktoken() -> Iterator[None]:
    """Hold ``serve_offline`` for a block; imports tiktoken."""
    import tiktoken.registry  # noqa: PLC0415 - slow, and most runs never estimate

    undo = serve_offline(tiktoken.registry)
    try:
        yield
    finally:
        undo()


@functools.cache
def _load_definitions() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return tiktoken's constructors from a private copy of their module, which reads our files.

    The module that everyone imports stays as it is.
    """
    spec = importlib.util.find_spec("tiktoken_ext.openai_public")
    if spec is None or spec.loader is None:
        raise VocabularyError("tiktoken's own definitions are missing; reinstall tiktoken")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load_tiktoken_bpe = _load_published
    module.data_gym_to_mergeable_bpe_ranks = _load_gpt2
    definitions: dict[str, Callable[[], dict[str, Any]]] = module.ENCODING_CONSTRUCTORS
    return definitions


def _load_published(address: str, expected_hash: str | None = None) -> dict[bytes, int]:
    """Stand in for ``tiktoken.load.load_tiktoken_bpe``."""
    name = address.rpartition("/")[2].removesuffix(".tiktoken")
    if name not in PUBLISHED_SHA256 or expected_hash not in {None, PUBLISHED_SHA256[name]}:
        raise VocabularyError(f"the installed tiktoken asks for {address}, which does not ship here")
    return load_ranks(name)


def _load_gpt2(**_files: str) -> dict[bytes, int]:
    """Stand in for ``tiktoken.load.data_gym_to_mergeable_bpe_ranks``, which only gpt2 needs."""
    return load_ranks("gpt2")


def _list_names() -> list[str]:
    return sorted({*TABLES, *PUBLISHED_SHA256, *_TABLE_OF})
