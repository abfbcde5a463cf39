"""The decoding engine of a device: one loaded bundle, any number of generations."""

from __future__ import annotations

from updraft.devices.energy import ModelledMeter
from updraft.edge.generation import Generation
from updraft.edge.link import CloudLink
from updraft.edge.reconnect import Backoff
from updraft.edge.request import CLOUD_MODES, GenerationRequest
from updraft.errors import RequestError
from updraft.models.bundle import Bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer


class Engine:
    """Starts generations; they may run at the same time, one thread each.

    Args:
        link: the way to the coordinator; without one only `full` and `standalone` work.
        whole_model: load all layers, which `full` needs; else only those below the split.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: RuntimeOptions,
        meter: ModelledMeter,
        link: CloudLink | None = None,
        whole_model: bool = False,
    ) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.meter = meter
        self.link = link
        self.backoff = Backoff()
        self.tokenizer = Tokenizer(bundle)
        top = manifest.architecture.layers if whole_model else manifest.split
        self.model = Model.load(bundle, range(top), options)

    def start(self, request: GenerationRequest) -> Generation:
        """Check a request against this engine and return the generation, ready to be iterated.

        Raises:
            RequestError: it can never be served here as asked.
        """
        manifest = self.bundle.manifest
        if request.mode in CLOUD_MODES and self.link is None:
            raise RequestError(
                f"mode {request.mode!r} needs a coordinator: give --cloud HOST:PORT, or [cloud] "
                "address in the configuration; 'standalone' does without"
            )
        if request.mode == "full" and self.model.top < manifest.architecture.layers:
            raise RequestError(
                "mode 'full' needs all layers on this device: set whole_model = true under "
                "[decoding]"
            )
        if request.wire not in manifest.codecs:
            raise RequestError(
                f"wire codec {request.wire!r} is not one of bundle {manifest.name!r}: choose from "
                f"{', '.join(manifest.codecs)}"
            )
        prompt = self.tokenizer.encode(request.prompt)
        if manifest.overflow == "refuse":
            _check_length(len(prompt), request.max_tokens, manifest.architecture.context_length)
        generation = Generation(self, request, prompt)
        sources = [f"exit_{exit_.layer}" for exit_ in manifest.exits]
        generation.result.decisions = dict.fromkeys([*sources, "cloud", "stop"], 0)
        return generation


def _check_length(prompt: int, max_tokens: int, limit: int) -> None:
    if prompt >= limit:
        raise RequestError(
            f"the prompt has {prompt} tokens, the context holds {limit}: shorten it by at least "
            f"{prompt - limit + 1}"
        )
    if prompt + max_tokens > limit:
        raise RequestError(
            f"the prompt has {prompt} tokens and max_tokens is {max_tokens}, together more than "
            f"the context of {limit}: at most {limit - prompt} new tokens fit"
        )
