"""When a model's name may be taken for an entry of the price table: never on a likeness.

genai-prices matches many entries by how a name begins, or by what it contains, so that ``gpt-5-nano-2025-08-07``
finds ``gpt-5-nano``. The same clauses would price ``deepseek-r1-distill-qwen-32b`` as ``deepseek-r1``, or
``gemini-1.5-flash-8b`` at twice its rate. So what a clause leaves over of a name has to be something that marks the
same model: a snapshot's date or number, ``-latest``, ``-preview``, a platform's revision (``-v1:0``), a region or a
vendor in front. Any other name is unpriced.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Who bills, by the other names that clients and URLs use for it. Anything else must be genai-prices' own id.
_PROVIDERS: Mapping[str, str] = {
    "amazon": "aws",
    "amazon_bedrock": "aws",
    "amazon-bedrock": "aws",
    "bedrock": "aws",
    "azure-openai": "azure",
    "azure_openai": "azure",
    "azure_ai": "azure",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "google-genai": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "google-vertex": "google",
    "vertex": "google",
    "vertex_ai": "google",
    "vertexai": "google",
    "mistralai": "mistral",
    "together-ai": "together",
    "together_ai": "together",
    "togetherai": "together",
    "xai": "x-ai",
}

_SNAPSHOT = re.compile(
    r"""(?:
        [-@](?:
            20\d\d-\d\d-\d\d      # 2024-07-18
          | \d\d-\d\d-20\d\d | \d\d-20\d\d | \d\d-\d\d   # 09-2025, 05-20
          | \d{3,8}               # 20241022, 0613, 001
          | latest | preview | exp | experimental | beta
          | v\d{1,2}              # a platform's revision
        )
      | :\d{1,2}                  # the :0 of -v1:0 ...
      | :\d+k                     # ... and a context size behind it
      | \.ft-[0-9a-z-]*           # Azure's name of a fine-tuned model
    )\Z""",
    re.VERBOSE,
)
_FINE_TUNED = re.compile(r"(ft:[^:]+)(?::[^:]*)+\Z")
_FRONT = re.compile(
    r"(?:(?:[a-z]{2}|apac|global|us-gov)\.)?"
    r"(?:(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshotai|nvidia|openai|qwen|writer|zai)[./])?"
)
_GOOGLE_MODEL = re.compile(r"(?:^|/)models/([^/]+)\Z")  # not tunedModels/...
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")

# The table's entry is named "Claude 2.0 / 2.1" and matches on how the name begins.
_VOUCHED_FOR = frozenset({"claude-2.0", "claude-2.1"})


def canonical_provider(provider: str) -> str:
    """The provider's id in genai-prices, where this is another name of it; else the name itself, in lower case."""
    name = provider.strip().lower()
    return _PROVIDERS.get(name, name)


def model_candidates(provider: str, model: str) -> tuple[str, ...]:
    """The spellings under which a table may list the model, the one that was used first.

    Args:
        provider: the canonical provider; its own name in front of the model is taken off.
        model: the name as the provider's answer or the request had it.
    """
    name = model.strip().lower()
    spellings = [name]
    if provider == "google" and (listed := _GOOGLE_MODEL.search(name)) is not None:
        spellings.append(listed.group(1))
    if provider == "aws" and name.startswith("arn:") and "/" in name:
        spellings.append(name.rpartition("/")[2])
    for separator in "/:":
        front, _, rest = name.partition(separator)
        if rest and provider and canonical_provider(front) == provider:
            spellings.append(rest)
    spellings += [_COMPACT_DATE.sub(r"-\1-\2-\3", each) for each in spellings]
    return tuple(dict.fromkeys(spellings))


def covers(clause: Any, name: str) -> bool:
    """Whether a clause of genai-prices that matches the name also leaves nothing unexplained of it.

    Args:
        clause: one of genai-prices' ``Clause...`` values.
        name: a model's name in lower case.
    """
    if not clause.is_match(name):
        return False
    if (choices := getattr(clause, "or_", None) or getattr(clause, "and_", None)) is not None:
        # In a conjunction all parts match already; one of them has to account for the whole name.
        return any(covers(choice, name) for choice in choices)
    if hasattr(clause, "equals"):
        return True
    # A kind of clause that is not known yet leaves the whole name unexplained.
    front, literal = next((found for found in _literals(clause, name) if found[1]), (name, ""))
    return bool(literal) and _accounts_for(literal, name, front=front)


def _literals(clause: Any, name: str) -> Iterator[tuple[str, str]]:
    """What a matching clause says about the name: what stands in front, and the text that it asks for."""
    if hasattr(clause, "starts_with"):
        yield "", clause.starts_with.lower()
    if hasattr(clause, "ends_with"):
        yield name.removesuffix(clause.ends_with.lower()), clause.ends_with.lower()
    if hasattr(clause, "contains"):
        yield name[: name.index(clause.contains.lower())], clause.contains.lower()
    if hasattr(clause, "regex") and (match := re.match(clause.regex, name)) is not None:
        yield "", match.group()


def _accounts_for(literal: str, name: str, *, front: str) -> bool:
    """Whether all that the name holds beside the literal marks the same model."""
    if _FRONT.fullmatch(front) is None:
        return False
    rest = name[len(front) :]
    return rest in _VOUCHED_FOR or literal.startswith(_stem(rest))


def _stem(name: str) -> str:
    if (tuned := _FINE_TUNED.match(name)) is not None:
        name = tuned.group(1)
    while (shorter := _SNAPSHOT.sub("", name)) != name:
        name = shorter
    return name
