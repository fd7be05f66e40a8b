"""The page on troubleshooting has a row for whatever message the plugin raises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
RAISED = re.compile(
    r"(Configuration|Cassette|Usage|UnknownCost|Account|Vocabulary|Unreadable|Uncountable|Impossible|MissingRate"
    r"|UnknownModel|UnmeasuredUsage)Error|fail|add_incident"
)
"""What carries a message that its user reads, by itself or in the line of another."""


def literal(node):
    """A message as it stands in the code, with ``...`` for what differs; empty where it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.Call) and len(node.args) == 1:  # a message that is made one line
        return literal(node.args[0])
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    return ""


def messages(source):
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.keyword)
            and node.arg in ("reason", "why_none")
            and " " in (text := literal(node.value))
        ):
            yield text
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            # What only puts its place before another's message says nothing itself.
            text = literal(node.args[0]).removeprefix("token budget: ") if RAISED.fullmatch(name) else ""
            if re.search(r"\w", text):
                yield text


def rows(page):
    """The messages that the page quotes, as patterns: ``...`` stands for anything."""
    for line in page.splitlines():
        if line.startswith("| "):
            for quoted in re.findall(r"`([^` ]+ [^`]+)`", line):
                yield re.compile(".*".join(re.escape(part) for part in quoted.split("...")), re.DOTALL)


SAID = sorted(
    {text for path in (ROOT / "pytest_tokenbudget").rglob("*.py") for text in messages(path.read_text("utf-8"))}
)


@pytest.mark.parametrize("message", SAID)
def test_each_message_has_its_way_out(message):
    assert any(row.search(message) for row in rows(PAGE)), message


def test_messages_are_found():
    assert len(SAID) > 60
    assert any(text.startswith("baseline ...: ...") for text in SAID)
    assert not any(row.search("a message that no page has") for row in rows(PAGE))
