"""From a model's words to a pydantic object, asking again for what does not fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic

from pydantic import ValidationError
from pydantic_core import from_json

from saas_litellm_client import _requests, errors
from saas_litellm_client.answers import Model
from saas_litellm_client.options import CallOptions, Messages


class Talk(Generic[Model]):
    """A conversation that goes on until the answer fits, or the repairs are used up."""

    def __init__(self, model: type[Model], messages: Messages, *, repairs: int) -> None:
        self._model, self._repairs = model, repairs
        self.messages: list[Mapping[str, Any]] = _requests.listed(messages)
        self.response_format: dict[str, Any] = {
            "type": "json_schema",
            "json_schema": {"name": _name(model), "schema": model.model_json_schema()},
        }

    def within(self, options: CallOptions) -> CallOptions:
        return {**options, "response_format": self.response_format}

    def hear(self, text: str, *, refusal: str | None = None) -> Model | None:
        """The object; None if it does not fit and ``messages`` now ask for a better one.

        Raises NotStructured.
        """
        if refusal:
            raise errors.NotStructured("The model refused to answer.", text=refusal)
        try:
            return self._model.model_validate_json(json_of(text))
        except ValidationError as error:
            problems = [f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()]
        if self._repairs == 0:
            raise errors.NotStructured(
                f"No valid {self._model.__name__}, repairs included.", text=text, problems=problems
            )
        self._repairs -= 1
        wrong = "\n".join(f"- {problem}" for problem in problems)
        self.messages += [
            {"role": "assistant", "content": text},
            {
                "role": "user",
                "content": f"That does not fit the schema:\n{wrong}\n"
                "Answer again with the corrected JSON object and nothing else.",
            },
        ]
        return None


def partial(text: str) -> dict[str, Any] | None:
    """The object as far as it has arrived, its last text included; None before it begins."""
    try:
        found = from_json(json_of(text), allow_partial="trailing-strings")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def json_of(text: str) -> str:
    """Without the fence that models like to put around JSON."""
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare.partition("\n")[2].removesuffix("```")
    return bare


def tool(model: type[Model], *, name: str = "", description: str = "") -> dict[str, Any]:
    """A tool whose arguments are the model's fields; its docstring says what it is for."""
    schema = model.model_json_schema()
    said = description or schema.pop("description", "")
    function = {"name": name or _name(model), "parameters": schema}
    return {"type": "function", "function": {**function, **({"description": said} if said else {})}}


def _name(model: type[Any]) -> str:
    """OpenAI takes letters, digits, _ and -, 64 at most."""
    return "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in model.__name__)[
        :64
    ]


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)) or "the answer"
