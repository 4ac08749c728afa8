"""Typed parameters of plugins."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Base of every plugin's nested ``Params``: frozen, unknown keys refused, defaults validated.

    Describe every field (``Field(20, ge=2, description="bars in the window")``): the schema is what the
    DSL check, ``plugins show`` and editors work from. A field named like password, secret, token or key
    must be a ``SecretStr``.
    """

    # Errors name no input: pydantic would show a password beside whatever else is wrong.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )


def params_schema(model: type[BaseModel]) -> dict[str, Any]:
    """JSON schema (2020-12) of a parameter model, without pydantic's titles."""
    schema: dict[str, Any] = _without_titles(model.model_json_schema())
    return schema


def _without_titles(node: Any) -> Any:
    if isinstance(node, dict):
        # 'title' is pydantic's decoration only where it is a string; a property may be called title.
        return {k: _without_titles(v) for k, v in node.items() if not (k == "title" and isinstance(v, str))}
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    return node
