"""A stand-in for NDIF: receives what nnsight's own client sends over HTTP and a websocket, and runs it on a model of its own."""

import base64
import contextlib
import email.parser
import hashlib
import json
import linecache
import queue
import threading
from collections.abc import Generator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of RFC 6455."""


class Ndif:
    """Serves one checkpoint under a hub id, with adapters by theirs.

    Args:
        adapters: {hub id: folder}; an id that maps to None is accepted and not applied.
        key: what it wants to see, if anything.
    """

    def __init__(self, name: str, folder: Path, adapters: dict[str, Path | None], key: str | None = None):
        from nnsight import TransformersModel

        self.model: Any = TransformersModel(str(folder), task="text-generation", dispatch=True)
        self.name, self.adapters, self.key = name, adapters, key
        self.asked: list[dict[str, Any]] = []
        """Envelope of every request."""
        self.waiting: dict[str, queue.Queue[tuple[int, bytes]]] = {}

    @contextlib.contextmanager
    def running(self) -> Generator[str, None, None]:
        """The address, while it serves."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"ndif": self}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()

    def execute(self, envelope: dict[str, Any], blob: bytes) -> dict[str, Any]:
        """What the block saved."""
        from nnsight.schema.request import RequestModel
        from nnsight.tracing.tracer import dec, inc

        key = json.loads(envelope["model_key"].partition(":")[2])
        if key["repo_id"] != self.name:
            raise ValueError(f"{key['repo_id']} is not deployed")
        adapter = envelope["env"].get("peft")
        self.model._remoteable_set_env(
            {
                **envelope["env"],
                "peft": None if adapter is None or self.adapters[adapter] is None else str(self.adapters[adapter]),
            }
        )
        sources = dict(linecache.cache)  # a server has no files of the client's; here they are the same files
        tracer = RequestModel.deserialize(blob, self.model._remoteable_persistent_objects(), envelope["compress"])
        frame, before = tracer.info.frame, dict(tracer.info.frame.f_locals)
        inc()
        try:
            with torch.inference_mode():
                tracer.execute(tracer.info.code)
        finally:
            dec()
            linecache.cache.clear()
            linecache.cache.update(sources)
        return {name: value for name, value in frame.f_locals.items() if before.get(name) is not value}


class _Handler(BaseHTTPRequestHandler):
    ndif: Ndif

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        """`/subscribe`: a websocket that names the session and later carries its result."""
        accept = base64.b64encode(hashlib.sha1((self.headers["Sec-WebSocket-Key"] + MAGIC).encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        session = f"session {len(self.ndif.waiting)}"
        waiting = self.ndif.waiting[session] = queue.Queue()
        self._frame(1, json.dumps({"session_id": session}).encode())
        # a job that is refused has no result, and nobody listens to what a thread says that outlives its test
        with contextlib.suppress(queue.Empty, OSError):
            self._frame(*waiting.get(timeout=60))
        self.close_connection = True

    def _frame(self, kind: int, data: bytes) -> None:
        self.wfile.write(bytes([0x80 | kind, 127]) + len(data).to_bytes(8, "big") + data)
        self.wfile.flush()

    def do_POST(self) -> None:
        """`/request`: run a job, after saying that it was received."""
        import io

        import zstandard

        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        whole = email.parser.BytesParser().parsebytes(head + self.rfile.read(int(self.headers["Content-Length"])))
        parts = whole.get_payload()
        assert isinstance(parts, list)
        envelope, blob = (part.get_payload(decode=True) for part in parts if isinstance(part, Message))
        assert isinstance(envelope, bytes) and isinstance(blob, bytes)
        asked = json.loads(envelope)
        self.ndif.asked.append(asked)
        if self.ndif.key and self.headers.get("ndif-api-key") != self.ndif.key:
            self._json(401, {"detail": "this key is not known"})
            self.ndif.waiting[asked["session_id"]].put((8, b""))
            return
        self._json(200, {"id": "job", "status": "RECEIVED"})
        from nnsight.schema.response import ResponseModel, Status

        try:
            saved = io.BytesIO()
            torch.save(self.ndif.execute(asked, blob), saved)
            data = zstandard.ZstdCompressor().compress(saved.getvalue()) if asked["compress"] else saved.getvalue()
            answer = (2, ResponseModel(id="job", status=Status.COMPLETED, data=data).pickle())
        except Exception as error:
            failed = ResponseModel(id="job", status=Status.ERROR, description=f"{type(error).__name__}: {error}")
            answer = (1, failed.model_dump_json().encode())
        self.ndif.waiting[asked["session_id"]].put(answer)

    def _json(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
