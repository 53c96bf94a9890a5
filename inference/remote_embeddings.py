"""Sentence embeddings from another process over OpenAI's `/v1/embeddings`: `countersign embed`, vLLM, or another.

Vectors of two models are never mixed: `version` is learnt from the server before the first vector is handed out, and a
server that turns out to serve another model is unavailable until it has been learnt anew.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from inference.breaker import CircuitBreaker, CircuitOpen
from inference.model import ModelUnavailable
from inference.rota import RememberedVectors, Rota

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from inference.rota import Vector

TEXTS_A_REQUEST = 64
"""Texts of several callers that go to the server together, at most."""

LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer that are read; 64 vectors of 4,096 numbers take 1.4 MB."""

PROBES = (
    "Can somebody look at the login page? It has been down since this morning.",
    "close TCK-12",
    "What is the weather like in Lisbon?",
)
TELLING = 8
"""A model is told by the places and signs of so many largest numbers in the vector of each of `PROBES`: another model
has others, while a GPU that adds in another order moves the numbers themselves by a hair."""

OURS = "countersign"
"""Owner that `countersign embed` names in its `/v1/models`: its models' roots are digests already."""


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """How long a server may take."""

    connect: timedelta = timedelta(seconds=1)
    total: timedelta = timedelta(seconds=5)
    """For one request, from sending to the last byte."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What is known of the server's model."""

    version: str
    root: str | None
    """The digest that one of our own processes names with each answer; None for others' servers."""
    dimensions: int


class _TextsRefused(Exception):
    """The server will not embed one of these texts; it is well otherwise."""


class RemoteEmbedder:
    """An `Embedder` that asks a server, with whatever waits while one request is under way in the next.

    embedder = RemoteEmbedder("http://embed.internal:8090/v1", "countersign-encoder")
    await embedder.prepare()            # learns `version`
    vectors = await embedder.embed(["close TCK-12"])
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        limits: EmbeddingLimits | None = None,
        breaker: CircuitBreaker | None = None,
        remembered: int = 2048,
    ) -> None:
        """`base_url` is one that OpenAI clients take: `http://host:8090/v1`; `remembered` texts keep their vector."""
        self._base_url, self._model = base_url.rstrip("/"), model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._limits = limits or EmbeddingLimits()
        self._breaker = breaker or CircuitBreaker()
        self._remembered = RememberedVectors(remembered)
        self._rota = Rota()
        self._asking: asyncio.Task[None] | None = None
        self._served: _Served | None = None
        self._learning = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def version(self) -> str:
        """Digest of the model where `countersign embed` serves it, else its name and a digest of what it answers.

        Raises `ModelUnavailable` until `prepare` has learnt it.
        """
        return self._known().version

    @property
    def dimensions(self) -> int:
        """Length of a vector. Raises `ModelUnavailable` until `prepare` has learnt it."""
        return self._known().dimensions

    async def prepare(self) -> None:
        """Learn what the server's model is, unless that is known. Raises `ModelUnavailable`."""
        async with self._learning:
            if self._served is None:
                self._served = await self._learn()

    async def warm(self) -> None:
        """As `prepare`; both kinds of embedder have it."""
        await self.prepare()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`. Raises `ModelUnavailable`."""
        await self.prepare()
        known = self._known()
        numpy = await _numpy()
        found = self._remembered.of(texts)
        missing = [text for text in texts if text not in found]
        if missing:
            found.update(await self._asked(missing))
            if self._served is not known:
                raise ModelUnavailable(f"the embedding server changed its model {self._model} meanwhile")
            self._remembered.add(found)
        if not texts:
            empty: NDArray[np.float32] = numpy.zeros((0, known.dimensions), dtype=numpy.float32)
            return empty
        vectors: NDArray[np.float32] = numpy.stack([found[text] for text in texts])
        return vectors

    async def close(self) -> None:
        """Refuse what waits and release the connections."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        self._rota.abandon(ModelUnavailable("the embedding client was closed"))
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _asked(self, texts: Sequence[str]) -> dict[str, Vector]:
        if self._closed:
            raise ModelUnavailable("the embedding client was closed")
        caller = self._rota.enter(texts)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._keep_asking())
        try:
            await caller.done
        finally:
            self._rota.leave(caller)
        return caller.found

    async def _keep_asking(self) -> None:
        while taken := self._rota.take(TEXTS_A_REQUEST):
            outcomes = await self._outcomes(taken)
            for text, outcome in zip(taken, outcomes, strict=True):
                self._rota.settle(text, outcome)

    async def _outcomes(self, texts: list[str]) -> Sequence[Vector | Exception]:
        """A vector or an exception for each text; a text that is refused is found by halving."""
        try:
            vectors = await self._vectors(texts)
            self._check(vectors)
            return list(vectors)
        except _TextsRefused:
            if len(texts) == 1:
                return [
                    ModelUnavailable(f"the embedding model {self._model} refuses a text of {len(texts[0])} letters")
                ]
            half = len(texts) // 2
            return [*await self._outcomes(texts[:half]), *await self._outcomes(texts[half:])]
        except ModelUnavailable as error:
            return [error] * len(texts)

    async def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        body = {"model": self._model, "input": texts, "encoding_format": "base64"}
        answer = await self._request("POST", "embeddings", body)
        vectors = _read_vectors(answer, len(texts), await _numpy())
        if self._served is not None and self._served.root is not None and answer.get("model") != self._served.root:
            self._forget()
            raise ModelUnavailable(f"the embedding server changed its model {self._model}")
        return vectors

    def _check(self, vectors: NDArray[np.float32]) -> None:
        if vectors.shape[1] != self._known().dimensions:
            self._forget()
            raise ModelUnavailable(f"the embedding server changed its model {self._model}: vectors of another length")

    def _known(self) -> _Served:
        if self._served is None:
            raise ModelUnavailable(f"the embedding server's model {self._model} is not known yet")
        return self._served

    def _forget(self) -> None:
        self._served = None
        self._remembered.clear()

    async def _learn(self) -> _Served:
        try:
            vectors = await self._vectors(list(PROBES))
        except _TextsRefused as error:
            raise ModelUnavailable(f"the embedding server does not serve {self._model}") from error
        root = _root_of_ours(await self._models(), self._model)
        return _Served(root or f"{self._model}@{_likeness_digest(vectors)}", root, vectors.shape[1])

    async def _models(self) -> dict[str, Any]:
        try:
            return await self._request("GET", "models", None)
        except _TextsRefused:
            # OpenAI's protocol has this page, not every server does.
            return {}

    async def _request(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """The JSON object that comes back. Raises `ModelUnavailable` and `_TextsRefused`."""
        try:
            with self._breaker.attempt(ModelUnavailable):
                try:
                    status, content = await self._sent(method, path, body)
                except TimeoutError as error:
                    limit = self._limits.total.total_seconds()
                    raise ModelUnavailable(f"the embedding server did not answer within {limit:g} s") from error
                except aiohttp.ClientError as error:
                    raise ModelUnavailable(f"the embedding server is away ({type(error).__name__})") from error
                if status in (400, 413, 422) or (status == 404 and method == "GET"):
                    raise _TextsRefused
                if status != 200:
                    raise ModelUnavailable(f"the embedding server answered {status}")
                return _read_object(content)
        except CircuitOpen:
            raise ModelUnavailable("the embedding server failed lately and is left alone for now") from None

    async def _sent(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        async with asyncio.timeout(self._limits.total.total_seconds()):
            try:
                return await self._sent_once(method, path, body)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # A pooled connection that the server had given up; embedding twice does no harm.
                return await self._sent_once(method, path, body)

    async def _sent_once(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        data = orjson.dumps(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if data is not None else {}
        url = f"{self._base_url}/{path}"
        # A redirect could lead people's texts, and the key, to another server than the one that may have them.
        async with self._pool().request(method, url, data=data, headers=headers, allow_redirects=False) as response:
            content = await response.content.read(LARGEST_ANSWER + 1)
            while not response.content.at_eof() and len(content) <= LARGEST_ANSWER:
                content += await response.content.read(LARGEST_ANSWER + 1 - len(content))
            if len(content) > LARGEST_ANSWER:
                raise ModelUnavailable("the embedding server's answer is too long")
            return response.status, content

    def _pool(self) -> aiohttp.ClientSession:
        # Made here and not in __init__: a session belongs to the loop that runs it.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect.total_seconds()),
            )
        return self._session


async def _numpy() -> Any:
    import sys

    if "numpy" in sys.modules:
        return sys.modules["numpy"]
    import importlib

    return await asyncio.to_thread(importlib.import_module, "numpy")


def _read_object(content: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ModelUnavailable("the embedding server's answer is no JSON") from error
    if not isinstance(answer, dict):
        raise ModelUnavailable("the embedding server's answer is no JSON object")
    return answer


def _read_vectors(answer: dict[str, Any], count: int, numpy: Any) -> NDArray[np.float32]:
    """The vectors of an answer in the order of the request: [count, dimensions], each brought to length 1."""
    try:
        ordered = sorted(answer["data"], key=lambda item: int(item["index"]))
        if [item["index"] for item in ordered] != list(range(count)):
            raise ValueError("indexes")
        rows = [_read_vector(item["embedding"], numpy) for item in ordered]
        vectors: NDArray[np.float32] = numpy.stack(rows)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable("the embedding server's answer has not one vector for each text") from error
    lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    if vectors.ndim != 2 or not vectors.shape[1] or not numpy.isfinite(vectors).all() or not (lengths > 0).all():
        raise ModelUnavailable("the embedding server's vectors are no vectors")
    # Those of length 1 already stay what they are, to the last bit.
    normalised: NDArray[np.float32] = numpy.where(numpy.abs(lengths - 1) < 1e-5, vectors, vectors / lengths)
    return normalised


def _read_vector(embedding: Any, numpy: Any) -> Any:
    if isinstance(embedding, str):
        return numpy.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    return numpy.array(embedding, dtype=numpy.float32)


def _root_of_ours(models: dict[str, Any], name: str) -> str | None:
    listed = models.get("data")
    for model in listed if isinstance(listed, list) else ():
        if isinstance(model, dict) and model.get("id") == name and model.get("owned_by") == OURS:
            return str(model["root"]) if "root" in model else name
    return None


def _likeness_digest(vectors: NDArray[np.float32]) -> str:
    told = []
    for vector in vectors:
        largest = sorted(int(place) for place in abs(vector).argsort()[-TELLING:])
        told.append([[place, bool(vector[place] > 0)] for place in largest])
    return hashlib.sha256(orjson.dumps(told)).hexdigest()[:16]
