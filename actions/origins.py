"""Where the arguments of a planned call come from, so that signers can tell what the requester did not type.

Invariant: a value that nobody accounts for counts as the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from actions.catalogue import ActionSpec
from inference.model import Origin, OriginKind


class Source(StrEnum):
    """Who an argument's value comes from, from the most to the least trusted."""

    TYPED = "typed"
    """The requester typed it in this request."""
    ASSISTANT = "assistant"
    """The product itself filled it in: the requester's own id, or the action's default. No model had a say."""
    THREAD = "thread"
    """It stands in messages of the thread: data that others may have written."""
    MODEL = "model"
    """A model rephrased, inferred or made it up."""


@dataclass(frozen=True, slots=True)
class ArgumentOrigin:
    """Where an argument's value comes from."""

    source: Source
    messages: tuple[str, ...] = ()
    """Ids of the messages it stands in; only for `thread`."""


def filled_by_assistant(spec: ActionSpec) -> frozenset[str]:
    """Names of the arguments that no words and no model can set (`x-filled-by: assistant`)."""
    properties = spec.schema().get("properties", {})
    return frozenset(name for name, declared in properties.items() if declared.get("x-filled-by") == "assistant")


def origins_of(
    spec: ActionSpec, given: Mapping[str, Any], said: Mapping[str, Origin], checked: Mapping[str, Any]
) -> dict[str, ArgumentOrigin]:
    """One origin for each argument of `checked`, the call's arguments as they will run.

    `given` are the arguments as they were proposed, and `said` is where they come from, by name.
    """
    filled, fields = filled_by_assistant(spec), spec.arguments.model_fields
    origins: dict[str, ArgumentOrigin] = {}
    for name, value in checked.items():
        origin = said.get(name)
        if name in filled or name not in given:
            origins[name] = ArgumentOrigin(Source.ASSISTANT)
        elif origin is not None and origin.kind is OriginKind.TYPED:
            origins[name] = ArgumentOrigin(Source.TYPED)
        elif not fields[name].is_required() and value == fields[name].default:
            # What the action takes when nobody says anything: leaving it out and naming it are the same.
            origins[name] = ArgumentOrigin(Source.ASSISTANT)
        elif origin is not None and origin.kind is OriginKind.THREAD:
            origins[name] = ArgumentOrigin(Source.THREAD, origin.messages)
        else:
            origins[name] = ArgumentOrigin(Source.MODEL)
    return origins
