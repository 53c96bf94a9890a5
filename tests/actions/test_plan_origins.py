"""Where a planned call's values come from: what nobody accounts for is the model's, and all of it is in the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from actions import plans
from actions.catalogue import Catalogue
from actions.connectors.sandbox_ticketing import SandboxTicketing
from actions.origins import ArgumentOrigin, Source, origins_of
from actions.plans import Plan, PlannedCall
from inference.model import Origin, OriginKind

TYPED = Origin(OriginKind.TYPED)
MODEL = Origin(OriginKind.MODEL)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue([SandboxTicketing(tmp_path / "ticketing.db", "https://tickets.example")])


def found(
    catalogue: Catalogue, action: str, given: Mapping[str, Any], said: Mapping[str, Origin]
) -> dict[str, ArgumentOrigin]:
    spec, _ = catalogue.find(action)
    return origins_of(spec, given, said, catalogue.check_arguments(action, given))


def test_every_argument_that_will_run_has_an_origin(catalogue: Catalogue) -> None:
    given = {"title": "Printer jams", "description": "On floor 3", "priority": "high", "requester": "rosa"}
    said = {"title": TYPED, "description": Origin(OriginKind.THREAD, ("m1", "m2")), "priority": MODEL}
    origins = found(catalogue, "ticketing.create", given, said)
    assert origins.keys() == catalogue.check_arguments("ticketing.create", given).keys()
    assert origins["title"] == ArgumentOrigin(Source.TYPED)
    assert origins["description"] == ArgumentOrigin(Source.THREAD, ("m1", "m2"))
    assert origins["priority"] == ArgumentOrigin(Source.MODEL)


def test_a_value_that_nobody_accounts_for_counts_as_the_models(catalogue: Catalogue) -> None:
    origins = found(catalogue, "ticketing.close", {"ticket": "TCK-7", "resolution": "solved"}, {})
    assert set(origins.values()) == {ArgumentOrigin(Source.MODEL)}


@pytest.mark.parametrize("said", [TYPED, MODEL, Origin(OriginKind.THREAD, ("m1",))])
def test_what_the_assistant_fills_in_is_its_own_whatever_is_said_of_it(catalogue: Catalogue, said: Origin) -> None:
    given = {"title": "Printer jams", "requester": "rosa"}
    assert found(catalogue, "ticketing.create", given, {"requester": said})["requester"].source is Source.ASSISTANT


@pytest.mark.parametrize("said", [{}, {"priority": MODEL}, {"priority": Origin(OriginKind.THREAD, ("m1",))}])
def test_a_default_is_no_choice_of_the_models_named_or_left_out(
    catalogue: Catalogue, said: Mapping[str, Origin]
) -> None:
    left_out = found(catalogue, "ticketing.create", {"title": "Printer jams"}, said)
    named = found(catalogue, "ticketing.create", {"title": "Printer jams", "priority": "normal"}, said)
    assert left_out["priority"] == named["priority"] == ArgumentOrigin(Source.ASSISTANT)


def test_a_default_that_was_typed_is_typed(catalogue: Catalogue) -> None:
    given = {"title": "Printer jams", "priority": "normal"}
    assert found(catalogue, "ticketing.create", given, {"priority": TYPED})["priority"].source is Source.TYPED


def test_origins_come_back_from_the_plans_bytes() -> None:
    origins = {"a": ArgumentOrigin(Source.THREAD, ("m1", "m2")), "b": ArgumentOrigin(Source.ASSISTANT)}
    plan = Plan("default", "rosa", "f" * 64, (PlannedCall("x.y", 1, "x", {"a": "1", "b": 2}, None, None, origins),))
    written = json.loads(plan.canonical())
    assert written["format"] == 2
    assert written["calls"][0]["origins"] == {
        "a": {"kind": "thread", "messages": ["m1", "m2"]},
        "b": {"kind": "assistant", "messages": []},
    }
    assert Plan.parse(plan.canonical()) == plan


def test_bytes_of_the_first_format_are_read_and_written_as_they_were() -> None:
    earlier = (
        b'{"calls":[{"action":"ticketing.close","action_version":1,"arguments":{"resolution":"solved","ticket":"TCK-7"},'
        b'"connector":"ticketing","target":"TCK-7","target_version":"3"}],"format":1,"policy":"f","requester":"rosa",'
        b'"tenant":"default"}'
    )
    plan = Plan.parse(earlier)
    assert plan.calls[0].origins == {}
    assert plan.canonical() == earlier


@pytest.mark.parametrize("written", [0, 3, "2", None])
def test_an_unknown_format_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="unknown format"):
        plans.Plan.parse(json.dumps({"format": written, "calls": []}).encode())
