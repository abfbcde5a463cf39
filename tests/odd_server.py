"""A server of OpenAI's API, over a real socket, that fails in the ways in which such servers do."""

import asyncio
import json
import socket
import threading
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from starlette.routing import Route

WORDS = ["Once", " upon", " a", " time", " é漢🙂", ".\n"]


class OddServer:
    """Answers as it is told.

    Attributes:
        behaviour: how the next requests are answered; see `_answer`, `_badly` and `_NONSENSE`.
        failures: so many requests are answered as `behaviour` says, further ones well; None: all.
        refuses: parameters that it does not take, and `refusal`, the status that says so.
        bodies: that came, those of probes (`max_tokens` 1) left out.
        left: streams whose client went before their end.
    """

    def __init__(self):
        self.behaviour, self.failures = "well", None
        self.refusal = 400
        self.refuses, self.paths = set(), {"completions", "chat/completions"}
        self.bodies, self.headers, self.left = [], [], 0
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        run = {"sockets": [self._socket]}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def close(self):
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()

    async def _models(self, request):
        self.headers.append(dict(request.headers))
        if self.behaviour == "models: none":
            return JSONResponse({"object": "list"})
        return JSONResponse({"object": "list", "data": [{"id": "odd", "object": "model"}]})

    async def _complete(self, request):
        body = await request.json()
        chat = request.url.path.endswith("chat/completions")
        if ("chat/completions" if chat else "completions") not in self.paths:
            return JSONResponse({"detail": "Not Found"}, 404)
        if body["max_tokens"] == 1:
            if refused := self.refuses & set(body):
                return _error(self.refusal, f"unknown parameter: {', '.join(sorted(refused))}")
            return self._well(body, chat)
        self.bodies.append(body)
        behaviour = self.behaviour
        if self.failures is not None:
            if not self.failures:
                behaviour = "well"
            self.failures = max(0, self.failures - 1)
        return self._answer(behaviour, body, chat)

    def _answer(self, behaviour, body, chat):
        name, _, detail = behaviour.partition(" ")
        if name == "status":
            return _error(int(detail), "the context is 10 tokens, your text \x1b[31mhas 11")
        if name == "redirect":
            return RedirectResponse("http://127.0.0.1:9/")
        if name == "html":
            return PlainTextResponse("<html>502</html>", media_type="text/html")
        if name == "well":
            return self._well(body, chat)
        return StreamingResponse(self._badly(behaviour, chat), media_type="text/event-stream")

    def _well(self, body, chat):
        words = WORDS[: body["max_tokens"]]
        reason = "length" if len(words) == body["max_tokens"] else "stop"
        usage = {"prompt_tokens": 7, "completion_tokens": len(words)}
        if not body.get("stream"):
            return JSONResponse(_completion("".join(words), chat, reason, usage, whole=True))

        async def events():
            for word in words:
                yield _event(_completion(word, chat))
            yield _event(_completion("", chat, reason))
            if body.get("stream_options"):
                yield _event({"choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _badly(self, behaviour, chat):
        if behaviour == "silent":
            await asyncio.sleep(30)
        yield b": a comment\n\n"
        yield _event(_completion(WORDS[0], chat))
        if behaviour == "endless":
            try:
                while True:
                    yield _event(_completion(" and", chat))
                    await asyncio.sleep(0.01)
            finally:
                self.left += 1
        if behaviour == "stalls":
            await asyncio.sleep(30)
        if behaviour == "dies":
            raise ConnectionResetError("as a killed process would")
        for part in _NONSENSE.get(behaviour, ()):  # "ends": without a reason
            yield part


_NONSENSE = {
    "no json": [b"data: {'text': 'no'}\n\n"],
    "no completion": [b'data: {"choices": [{"text": ["no"]}]}\n\n'],
    "huge": [b"x" * 65_536] * 40,
    "says error": [b'data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n'],
}


def _error(status, message):
    return JSONResponse({"error": {"message": message, "type": "invalid"}}, status)


def _event(value):
    return f"data: {json.dumps(value)}\n\n".encode()


def _completion(text, chat, reason=None, usage=None, whole=False):
    choice = {"index": 0, "finish_reason": reason}
    if chat:
        choice["message" if whole else "delta"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    return {"object": "completion", "choices": [choice], "usage": usage}
