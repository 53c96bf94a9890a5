"""`countersign embed`: a process that answers embeddings for the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from bot.commands.registry import Add

PORT = 8090

SHIPPED_MODEL = Path(__file__).resolve().parents[2] / ".countersign" / "models" / "minilm"
"""`bot.app.MODEL_FOLDER`: importing that would cost this small process 40 MB."""


def register(add: Add) -> None:
    """Add the commands of this group."""
    embed = add("embed", _embed, "a process that answers embeddings over OpenAI's protocol, for several web processes")
    embed.add_argument("--host", default="127.0.0.1", help="address to listen on; this machine's own unless given")
    embed.add_argument("--port", type=int, default=PORT, help=f"port to listen on ({PORT})")
    embed.add_argument("--model", type=Path, help="folder of the encoder; the product's own when left out")
    embed.add_argument("--data", type=Path, help="the data folder, where a tuned encoder may be installed")


def _embed(parsed: argparse.Namespace) -> int:
    from bot.embedding_server import serve_embeddings
    from bot.logs import configure_logs
    from bot.settings import checked_port
    from bot.up import settings_of
    from inference.embeddings import encoder_folder

    settings = settings_of(parsed.data, None, redis_needed=False)
    configure_logs(settings.log_format, "embed")
    folder = parsed.model or encoder_folder(settings.data, SHIPPED_MODEL)
    port = checked_port("--port", parsed.port)
    return serve_embeddings(folder, parsed.host, port, settings.model.embeddings_api_key)
