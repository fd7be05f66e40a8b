"""The fenced blocks of the project's pages: which ones make a small project, what is run in it, what it must print.

A block that stands right after ``<!-- run: NAME -->`` belongs to the project NAME of its page. It is a file of that
project, whose path is its first line (``# test_chat.py``), or a command with its output (``$ pytest``). The commands
run in order; every line that a block shows must be printed, in this order, and ``...`` stands for
whatever lies between, lines or letters.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neighbours import without_all_but
from recordings import RECORDINGS, write_cassette

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = (README, *sorted(DOCS.glob("*.md")))

QUIET = ("-p", "no:cacheprovider", *without_all_but())
"""What other plugins would leave behind or say, a page does not show."""

CONTINUES = frozenset({"baselines/over"})
"""Projects that start from the baseline that their page shows."""

SENDING = {"recording/ceiling": {"OPENAI_API_KEY": "sk-any", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}}
"""Projects whose reader has a key. What they would send is refused before; where nobody listens, in any case."""

_FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- run: (?P<name>[a-z-]+) -->\n*\Z")
_PATH = re.compile(r"# (?P<path>[\w./@\[\]-]+\.[a-z]+)\n")

# What differs from day to day and from one installation to the next.
_VOLATILE = (
    (re.compile(r"genai-prices \S+?,? (?:of|list prices of) \d{4}-\d\d-\d\d"), "genai-prices"),
    (re.compile(r'"source": "genai-prices", "version": "[^"]*", "date": "[^"]*"'), "genai-prices"),
    (re.compile(r'"created": "[^"]*"'), "created"),
    (re.compile(r'"name": "pytest-tokenbudget", "version": "[^"]*"'), "version"),
    (re.compile(r"\bin \d+\.\d\ds\b"), "in time"),
    (re.compile(r"[=_ ]{3,}"), "  "),  # rules are as wide as the terminal
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        page: the file that it stands in.
        line: the line of its opening fence, from 1.
        language: what its fence says; empty for none.
        text: what it holds, with a line break at its end.
        project: the project that it belongs to; ``None`` for one that is only looked at.
    """

    page: Path
    line: int
    language: str
    text: str
    project: str | None

    @property
    def where(self) -> str:
        """The block's place, for a test's id and for messages."""
        return f"{self.page.name}:{self.line}"

    @property
    def path(self) -> str | None:
        """The file that the block is, if its first line names one."""
        found = _PATH.match(self.text)
        return found["path"] if found else None

    @property
    def command(self) -> list[str] | None:
        """The words of the command whose output the block shows; ``None`` where it shows none."""
        first = self.text.partition("\n")[0]
        return shlex.split(first[2:], comments=True) if first.startswith("$ ") else None

    @property
    def output(self) -> list[str]:
        """The lines that the command must print."""
        return self.text.splitlines()[1:]


def read_blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in _FENCE.finditer(text):
        mark = _MARK.search(text, 0, found.start())
        blocks.append(
            Block(
                page=page,
                line=text.count("\n", 0, found.start()) + 1,
                language=found["language"],
                text=found["text"],
                project=mark["name"] if mark else None,
            )
        )
    return blocks


def projects(pages: tuple[Path, ...] = PAGES) -> dict[str, list[Block]]:
    """The blocks of every project, by ``page/name``."""
    found: dict[str, list[Block]] = {}
    for page in pages:
        for block in read_blocks(page):
            if block.project is not None:
                found.setdefault(f"{page.stem}/{block.project}", []).append(block)
    return found


def lay_out(name: str, blocks: list[Block], folder: Path) -> None:
    """Write a project's files, those of its blocks and its recordings, into a folder."""
    write_file(_program(), folder)
    for path, recorded in RECORDINGS.get(name, {}).items():
        if isinstance(recorded, str):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "examples" / "cassettes" / recorded, folder / path)
        else:
            write_cassette(folder / path, recorded)
    if name in CONTINUES:
        baseline = folder / "token-baseline.json"
        baseline.write_text(_shown_file("baselines/baseline", baseline.name), encoding="utf-8")
    for block in blocks:
        if block.command is None:
            write_file(block, folder)


def _program() -> Block:
    """The program that the examples of all pages call."""
    return next(block for block in read_blocks(DOCS / "budgets.md") if block.path == "chat.py")


def _shown_file(project: str, name: str) -> str:
    """A file as another project's ``$ cat`` shows it."""
    shown = next(block for block in projects()[project] if block.command == ["cat", name])
    return "\n".join(shown.output) + "\n"


def write_file(block: Block, folder: Path) -> None:
    """Write the file that a block is."""
    assert block.path is not None, f"{block.where} does not name its file in its first line"
    path = folder / block.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def run_command(block: Block, pytester: pytest.Pytester, python: str) -> list[str]:
    """Run the command of a block in the project's folder, and return the lines that it prints."""
    assert block.command is not None
    program, *arguments = block.command
    if program == "pytest":
        return pytester.run(python, "-mpytest", *QUIET, *arguments, timeout=120).outlines
    if program == "tokenbudget":
        return pytester.run(sys.executable, "-m", "pytest_tokenbudget", *arguments, timeout=60).outlines
    if program == "cat":
        return (pytester.path / arguments[0]).read_text(encoding="utf-8").splitlines()
    raise AssertionError(f"{block.where}: no reader could run {program!r}")


def check_lines(expected: list[str], printed: list[str], where: str) -> None:
    """Hold what a page shows against what was printed: every line, in order."""
    told = [_settled(line) for line in printed]
    at = 0
    for line in expected:
        if line.strip() in ("", "..."):
            continue
        pattern = re.compile(re.escape(_settled(line)).replace(r"\.\.\.", ".*"))
        found = next((index for index in range(at, len(told)) if pattern.fullmatch(told[index])), None)
        assert found is not None, f"{where} shows this line, which was not printed there:\n{line}\n\n" + "\n".join(
            told
        )
        at = found + 1


def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away keys, addresses and whatever else of the surroundings a program or pytest would heed."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "PYTEST_", "GITHUB_", "LANGCHAIN_", "LANGSMITH_")) or name.endswith(
            "_API_KEY"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


def messages_of(folder: Path) -> str:
    """Every text of the Python files below a folder; what an f-string fills in is a line break."""
    texts = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts += [
                    "".join(str(each.value) if isinstance(each, ast.Constant) else "\n" for each in node.values)
                ]
    return "\n\n".join(texts)


def _settled(line: str) -> str:
    for pattern, replacement in _VOLATILE:
        line = pattern.sub(replacement, line)
    return line.strip()
