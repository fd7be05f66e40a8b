"""Tool definitions as OpenAI's models read them: not the JSON of the request, but declarations in TypeScript.

The form is not documented. It was found by asking models to repeat it and by comparing reported token counts, and is
public knowledge since 2023; what it costs in our recordings stands in docs/estimates.md.
"""

from __future__ import annotations

import json
from typing import Any

_MAX_DEPTH = 20
_MAX_NODES = 10_000
"""Deeper or larger than this nobody writes a schema by hand; what is beyond is ``any``."""
_PRIMITIVES = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}


def render_tools(definitions: str) -> str | None:
    """Render the JSON of a request's ``tools`` or ``functions`` as the declarations that the model reads.

    Returns:
        The text; ``None`` where the JSON is no list of function definitions, such as a provider's own tools.
    """
    functions = read_functions(definitions)
    if not functions:
        return None
    lines = ["namespace functions {", ""]
    for function in functions:
        lines += [*_render_function(function), ""]
    return "\n".join([*lines, "} // namespace functions"])


def read_functions(definitions: str) -> list[dict[str, Any]]:
    """Read the functions in the JSON of a request's tools; none where one of them is something else."""
    try:
        tools = json.loads(definitions)
    except (ValueError, RecursionError):
        return []
    functions = []
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return []
        functions.append(function)
    return functions


class _Rendering:
    """One function's schema on its way to text; ``left`` bounds the work, since schemas may refer to themselves."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.root = schema
        self.left = _MAX_NODES

    def render_properties(self, schema: dict[str, Any], indent: str, depth: int) -> list[str]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return []
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        lines = []
        for name, given in properties.items():
            each = self.resolve(given)
            # Descriptions below the first level do not reach the model.
            if not indent:
                lines += _render_comment(each)
            optional = "" if name in required else "?"
            lines.append(f"{indent}{name}{optional}: {self.render_type(each, indent, depth + 1)},")
        return lines

    def render_type(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        self.left -= 1
        if depth > _MAX_DEPTH or self.left < 0:
            return "any"
        union = _list_alternatives(schema)
        if union:
            return " | ".join(self.render_type(self.resolve(each), indent, depth + 1) for each in union)
        kind = schema.get("type")
        if kind == "array":
            items = schema.get("items")
            return f"{self.render_type(self.resolve(items), indent, depth + 1)}[]" if items else "any[]"
        if kind == "object" or "properties" in schema:
            body = self.render_properties(schema, indent + "  ", depth)
            return "\n".join(["{", *body, indent + "}"]) if body else "object"
        choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(choices, list) and choices:
            return " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
        return _PRIMITIVES.get(kind, "any") if isinstance(kind, str) else "any"

    def resolve(self, given: Any) -> dict[str, Any]:
        """Follow a reference inside the schema; what can't be followed is ``any``."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(given, dict):
                return {}
            path = given.get("$ref")
            if not isinstance(path, str):
                return given
            found: Any = self.root
            for step in filter(None, path.removeprefix("#").split("/")):
                found = found.get(step) if isinstance(found, dict) else None
            given = found
        return {}


def _render_function(function: dict[str, Any]) -> list[str]:
    lines = _render_comment(function)
    schema = function.get("parameters", function.get("input_schema"))
    schema = schema if isinstance(schema, dict) else {}
    body = _Rendering(schema).render_properties(schema, "", 0)
    if not body:
        return [*lines, f"type {function['name']} = () => any;"]
    return [*lines, f"type {function['name']} = (_: {{", *body, "}) => any;"]


def _render_comment(schema: dict[str, Any]) -> list[str]:
    description = schema.get("description")
    if not isinstance(description, str) or not description:
        return []
    return [f"// {line}" for line in description.split("\n")]


def _list_alternatives(schema: dict[str, Any]) -> list[Any]:
    """Return the schemas of which any may hold."""
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return list(schema[key])
    kinds = schema.get("type")
    return [{**schema, "type": kind} for kind in kinds] if isinstance(kinds, list) else []
