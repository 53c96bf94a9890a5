"""`countersign bench …`: measures the product on a file of one's own."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bot.commands.registry import Add, CommandFailed

if TYPE_CHECKING:
    from bot.settings import Settings


def register(add: Add) -> None:
    """Add the commands of this group."""
    kinds = add("bench", None, "measure the product on a file of your own").add_subparsers(
        required=True, metavar="what"
    )
    router = kinds.add_parser("router", help="how well intents are told apart, and from what is none of them")
    router.add_argument(
        "--train", type=Path, required=True, help="JSON like CLINC150's: train, val, oos_train, oos_val"
    )
    router.add_argument("--test", type=Path, required=True, help="JSON like CLINC150's: test and oos_test")
    router.add_argument("--shots", type=_shots, default=(), help="also with so many examples a label: 5,10,20")
    router.add_argument("--seed", type=int, default=0, help="of drawing the examples for --shots")
    router.add_argument("--data", type=Path, help="folder of everything that must survive a restart")
    router.set_defaults(run=_router)


def _shots(value: str) -> tuple[int, ...]:
    shots = tuple(int(each) for each in value.split(","))
    if min(shots) < 2:
        raise argparse.ArgumentTypeError("every label needs two examples")
    return shots


def _router(parsed: argparse.Namespace) -> int:
    from bot.up import settings_of
    from inference.router_bench import BenchFileWrong

    settings = settings_of(parsed.data, None, redis_needed=False)
    try:
        print(asyncio.run(_measure(parsed, settings)))
    except BenchFileWrong as error:
        raise CommandFailed(str(error)) from error
    except ValueError as error:
        raise CommandFailed(f"{parsed.train}: {error}") from error
    return 0


async def _measure(parsed: argparse.Namespace, settings: Settings) -> str:
    from bot.app import MODEL_FOLDER
    from bot.models import build_embedder
    from bot.progress import Progress
    from inference.intent_classifier import Examples, embedded
    from inference.model import ModelUnavailable
    from inference.router_bench import embedded_one_by_one, measure, read_intents, split, table, with_shots

    parts = split(read_intents(parsed.train), read_intents(parsed.test))
    progress = Progress(sys.stderr)
    progress.begin(total_steps=3 + len(parsed.shots))
    embedder = build_embedder(settings.model, settings.data, MODEL_FOLDER)
    try:
        texts = [text for text, _ in parts.test]
        progress.step("Embedding what is measured", parts=len(texts))
        await embedder.embed(["the first text loads the model"])
        vectors, times = await embedded_one_by_one(texts, embedder, progress.advance)
        test = Examples(tuple(texts), tuple(label for _, label in parts.test), vectors)
        progress.step(f"Embedding {len(parts.train) + len(parts.held_out)} examples")
        train = await embedded(parts.train, embedder, lambda done: progress.tick(f"{done} examples"))
        held_out = await embedded(parts.held_out, embedder) if parts.held_out else None
    except ModelUnavailable as error:
        raise CommandFailed(str(error)) from error
    finally:
        await embedder.close()
    rows = []
    for shots in (*parsed.shots, None):
        name = "all examples" if shots is None else f"{shots} examples a label"
        progress.step(f"Fitting on {name}")
        chosen = train if shots is None else with_shots(train, shots, parsed.seed)
        rows.append((await asyncio.to_thread(measure, name, chosen, held_out, test, times, progress.note))[0])
    progress.end()
    return table(rows)
