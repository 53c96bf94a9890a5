"""`countersign model check`: what a configured language model does of what Countersign leans on.

One line a question, like `countersign doctor`; the exit code is 1 when something has to be mended.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from bot.commands.registry import Add, CommandFailed

if TYPE_CHECKING:
    from bot.model_settings import ModelSettings


def register(add: Add) -> None:
    """Add the commands of this group."""
    group = add("model", None, "the language model").add_subparsers(required=True, metavar="what")
    text = "ask a configured model server everything Countersign needs of it"
    check = group.add_parser("check", help=text, description=text)
    check.add_argument("--lane", choices=("fast", "rich"), help="only this one; both where both are configured")
    check.add_argument("--data", type=Path, help="folder of everything that must survive a restart")
    check.set_defaults(run=_check)


def _check(parsed: argparse.Namespace) -> int:
    from bot.up import settings_of

    settings = settings_of(parsed.data, None, redis_needed=False).model
    return 0 if asyncio.run(check(settings, lane=parsed.lane)) else 1


async def check(settings: ModelSettings, *, lane: str | None) -> bool:
    """Print a line a finding; returns whether all is well. Raises CommandFailed where nothing is configured."""
    from inference.chat_completions import Dialect
    from inference.probe import Probe

    configured = {"fast": settings.fast, "rich": settings.rich}
    chosen = {name: server for name, server in configured.items() if server is not None and lane in (None, name)}
    if not chosen:
        prefix = "VLLM_RICH_" if lane == "rich" else "VLLM_"
        raise CommandFailed(f"{prefix}BASE_URL and {prefix}MODEL are not set; see docs/model.md")
    good = True
    for name, server in chosen.items():
        print(f"{name}: {server.endpoint.name}")
        probe = Probe(
            server.base_url,
            server.model,
            server.api_key,
            dialect=Dialect(server.dialect),
            plans_by="schema" if server.plans_by == "schema" else "tools",
            limits=settings.limits,
            variables="VLLM_RICH_" if name == "rich" else "VLLM_",
        )
        try:
            async with aclosing(probe.findings()) as findings:
                async for finding in findings:
                    print(f"{'ok  ' if finding.good else 'MEND'}  {finding.question:<12} {finding.text}", flush=True)
                    good = good and finding.good
        finally:
            await probe.close()
    return good
