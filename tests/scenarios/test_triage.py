"""Triage: proposed from tickets sorted before once an operator has taught it, and honest before that."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from bot.app import ROOT
from inference.triage import INSTALLED
from tests.scenarios.house import House, Seat, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_ticket_gets_a_proposal_once_an_operator_has_taught_it(own_house: House, platform: str) -> None:
    from tests.scenarios.house import ROSA

    await own_house.start(worker=False)
    rosa = Seat(own_house, platform, ROSA)
    ticket = await own_house.new_ticket("The printer in room 12 is jammed again")
    await rosa.say(f"@Countersign triage {ticket}")
    await rosa.sees("I have not learnt how your tickets are sorted yet", "nothing was proposed or changed")

    await learn(own_house)
    before = len(rosa.seen())
    await rosa.say(f"@Countersign triage {ticket}")
    found = await rosa.sees(f"For {ticket} (The printer in room 12 is jammed again) I propose", "hardware")
    assert found in rosa.seen()[before:]
    assert "Queue" in shown(found)
    assert "nothing learnt" in shown(found)

    await rosa.say("@Countersign triage")
    await rosa.sees("Which ticket? Or describe the problem.")
    await rosa.say("@Countersign triage: vpn drops for everybody every hour")
    await rosa.sees("For what you describe I propose", "network")
    await rosa.say("@Countersign triage TCK-999999")
    await rosa.sees("There is no ticket TCK-999999")
    assert own_house.tickets()[ticket] == ("open", 1)

    told = [json.loads(line) for line in (await countersign(own_house, "decisions", "--limit", "6")).splitlines()]
    assert {each["prediction"] for each in told} == {"triage a ticket"}
    assert not any("printer" in str(each) or "vpn" in str(each) for each in told)


async def learn(house: House) -> None:
    """What an operator types, on 120 tickets that people sorted."""
    rows = [f"the printer in room {number} is jammed,hardware" for number in range(60)]
    rows += [f"vpn drops for user {number} every hour,network" for number in range(60)]
    file = house.data / "sorted.csv"
    file.write_text("title,category\n" + "\n".join(rows) + "\n")
    arguments = ("train", "tickets", "--train", str(file), "--out", str(house.data / "out"), "--install")
    await countersign(house, *arguments)
    assert (house.data / INSTALLED / "card.json").exists()


async def countersign(house: House, *arguments: str) -> str:
    """What a command prints to an operator of the house."""
    command = (sys.executable, "-m", "bot.cli", *arguments)
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, **house.variables}
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe)
    printed, said = await child.communicate()
    assert child.returncode == 0, said.decode()
    return printed.decode()
