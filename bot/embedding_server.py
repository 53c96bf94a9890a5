"""A small process that answers embeddings for the others, so that several web replicas share one model in memory.

It speaks OpenAI's `/v1/embeddings` and `/v1/models`. Its queue is bounded: what does not fit is told to come again.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
import structlog
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from inference.embeddings import Embedder, OnnxEmbedder
from inference.model import ModelUnavailable
from inference.remote_embeddings import OURS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIAS = "countersign-encoder"
"""A name for the model whatever its digest; the digest itself is taken too."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddingBounds:
    """How much the process takes on."""

    texts: int = 128
    """In one request."""
    letters: int = 20_000
    """In one text; the model reads the first 256 tokens."""
    waiting: int = 1024
    """Texts of all requests that are not answered yet."""
    retry_after: int = 1
    """Seconds, told to who does not fit."""

    body: int = 1024 * 1024
    """Bytes of one request."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    model: str
    input: str | list[str] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] = "float"


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str, *, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.code, self.kind = status, code, kind


class EmbeddingServer:
    """The ASGI application around an embedder.

    server = EmbeddingServer(OnnxEmbedder(folder))
    uvicorn.run(server.app)
    """

    def __init__(
        self, embedder: Embedder, bounds: EmbeddingBounds | None = None, *, api_key: str | None = None
    ) -> None:
        """With an `api_key`, only who brings it as a bearer token is answered. Closing the embedder is the caller's.

        Reads the embedder's version: raises `EmbeddingModelMissing`.
        """
        self._embedder, self._bounds = embedder, bounds or EmbeddingBounds()
        self._authorization = f"Bearer {api_key}".encode() if api_key else None
        self._version = embedder.version
        self._waiting = 0
        self.app = Starlette(
            routes=[
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/health", self._health),
            ],
        )

    async def _embeddings(self, request: Request) -> Response:
        try:
            self._admit(request)
            asked = await self._read(request)
            texts = [asked.input] if isinstance(asked.input, str) else asked.input
            self._check(asked.model, texts)
            return await self._answer(texts, asked.encoding_format)
        except _Refused as refused:
            headers = {"Retry-After": str(self._bounds.retry_after)} if refused.status == 429 else {}
            error = {"message": str(refused), "type": refused.kind, "param": None, "code": refused.code}
            return _json({"error": error}, refused.status, headers)

    def _admit(self, request: Request) -> None:
        given = request.headers.get("Authorization", "").encode()
        if self._authorization is not None and not hmac.compare_digest(given, self._authorization):
            raise _Refused(401, "invalid_api_key", "the API key is missing or another one")

    async def _read(self, request: Request) -> _Request:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._bounds.body:
                    raise _Refused(413, "too_long", f"the request is longer than {self._bounds.body} bytes")
            return _Request.model_validate_json(bytes(body))
        except ClientDisconnect as error:
            raise _Refused(400, "gone", "the connection ended before the request did") from error
        except ValidationError as error:
            # Where and what, never the text itself.
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "body"
            raise _Refused(400, "invalid", f"{where}: {error.errors()[0]['type']}") from error

    def _check(self, model: str, texts: list[str]) -> None:
        bounds = self._bounds
        if model not in (self._version, ALIAS):
            raise _Refused(404, "model_not_found", f"this process serves {ALIAS}")
        if len(texts) > bounds.texts:
            raise _Refused(400, "too_many_texts", f"{len(texts)} texts; a request takes {bounds.texts}")
        longest = max(map(len, texts))
        if longest > bounds.letters:
            raise _Refused(400, "text_too_long", f"a text has {longest} letters; {bounds.letters} are taken")
        if self._waiting + len(texts) > bounds.waiting:
            raise _Refused(429, "busy", f"{self._waiting} texts wait already; come again", kind="rate_limit_error")

    async def _answer(self, texts: list[str], form: Literal["float", "base64"]) -> Response:
        self._waiting += len(texts)
        try:
            vectors = await self._embedder.embed(texts)
        except ModelUnavailable as error:
            logger.warning("embedding_failed", error=str(error))
            raise _Refused(503, "unavailable", str(error), kind="server_error") from error
        finally:
            self._waiting -= len(texts)
        data = [
            {"object": "embedding", "index": place, "embedding": _base64(vector) if form == "base64" else vector}
            for place, vector in enumerate(vectors)
        ]
        return _json({"object": "list", "model": self._version, "data": data}, 200, {})

    async def _models(self, request: Request) -> Response:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": OURS, "root": self._version}
            for name in (self._version, ALIAS)
        ]
        return _json({"object": "list", "data": data}, 200, {})

    async def _health(self, request: Request) -> Response:
        return _json({"ready": True, "model": self._version, "waiting": self._waiting}, 200, {})


def serve_embeddings(model_dir: Path, host: str, port: int, api_key: str | None) -> int:
    """Run the process until SIGTERM or SIGINT; it answers once the model is loaded. Raises `EmbeddingModelMissing`."""
    server = uvicorn.Server(build_config(OnnxEmbedder(model_dir), host, port, api_key))
    server.run()
    return 0 if server.started else 1


def build_config(embedder: OnnxEmbedder, host: str, port: int, api_key: str | None = None) -> uvicorn.Config:
    """The HTTP server's configuration; the embedder is warm before the port opens, and closed with it."""
    app = EmbeddingServer(embedder, api_key=api_key).app

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await embedder.warm()
        yield
        await embedder.close()

    app.router.lifespan_context = lifespan
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=8,
    )


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _json(content: dict[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")
