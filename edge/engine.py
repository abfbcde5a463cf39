"""The decoding engine of a device: one loaded bundle, any number of generations."""

from __future__ import annotations

import threading
from dataclasses import replace

from updraft.devices.meters.meter import Meter
from updraft.edge.estimate import LinkEstimate
from updraft.edge.generation import Generation
from updraft.edge.link import CloudLink
from updraft.edge.occupancy import Occupancy
from updraft.edge.online import OnlineLambda
from updraft.edge.outage import Breaker
from updraft.edge.pilot import Pilot
from updraft.edge.prefix import PrefixCache
from updraft.edge.request import CLOUD_MODES, GenerationRequest
from updraft.edge.window import Window
from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle
from updraft.models.chooser import Chooser
from updraft.models.constraint import Grammars
from updraft.models.guarantee import guarantee_for
from updraft.models.manifest import Guarantee
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer


class Engine:
    """Starts generations; they may run at the same time, one thread each.

    Args:
        link: the way to the coordinator; without one only `full` and `standalone` work.
        whole_model: load all layers, which `full` needs; else only those below the split.
        tuned: a bundle whose layers below its split are the tuned small model of `proxy`.
        prefix_cache_bytes: memory for what ended texts leave to those that begin alike.

    Raises:
        BundleError: the tuned bundle does not go with the other.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: RuntimeOptions,
        meter: Meter,
        link: CloudLink | None = None,
        whole_model: bool = False,
        tuned: Bundle | None = None,
        prefix_cache_bytes: int = 0,
    ) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.meter = meter
        self.link = link
        self.occupancy = Occupancy()
        self.breaker = Breaker()
        # A backend may be away while the coordinator is there.
        self.backend_breaker = Breaker()
        self.estimate = LinkEstimate()
        self.pilot = Pilot(bundle, self.estimate)
        self._commitments: dict[Guarantee, OnlineLambda] = {}
        self.tokenizer = Tokenizer(bundle)
        self._grammars = Grammars(bundle, self.tokenizer)
        top = manifest.architecture.layers if whole_model else manifest.split
        self._options, self._layers = options, range(top)
        self._loading = threading.Lock()
        self._prefixes = PrefixCache(prefix_cache_bytes)
        self._model: Model | None = self._load()
        self._tuned: Model | None = None
        if tuned is not None:
            _check_tuned(bundle, tuned)
            self._tuned = Model.load(tuned, range(tuned.manifest.split), options)

    @property
    def model(self) -> Model:
        """The loaded layers; loads them again where they were parked."""
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def park(self) -> None:
        """Give the memory of the layers back; running generations keep them until they end."""
        with self._loading:
            self._model = None
            self._prefixes.serve(())

    def commitment(self, request: GenerationRequest) -> OnlineLambda:
        """Return the λ of mode `bounded`, corrected by all generations that share its guarantee.

        Raises:
            RequestError: the bundle holds no guarantee for it, or only for shorter texts.
        """
        guarantee = guarantee_for(self.bundle, request.epsilon, request.wire, request.temperature)
        if request.max_tokens > guarantee.max_tokens:
            raise RequestError(
                f"max_tokens {request.max_tokens}: the guarantee of mode 'bounded' is about "
                f"texts of up to {guarantee.max_tokens} tokens; ask for fewer, or calibrate with "
                f"--max-tokens {request.max_tokens}"
            )
        return self._commitments.setdefault(guarantee, OnlineLambda(guarantee))

    def chooser(self, request: GenerationRequest, prompt_tokens: int) -> Chooser:
        """Return what chooses the tokens of a request's text.

        Raises:
            RequestError: its constraint cannot be used.
        """
        constraint = request.constraint
        matcher = None if constraint is None else self._grammars.matcher(constraint)
        return Chooser(
            request.sampling, prompt_tokens, self.tokenizer.ends, matcher, request.logprobs
        )

    def edge_window(self) -> Window:
        """Return an empty window of the layers below the split."""
        split = self.bundle.manifest.split
        return Window(self.model.below(split), split, self._prefixes)

    def tuned_window(self) -> Window:
        """Return an empty window of the tuned small model."""
        assert self._tuned is not None, "the engine checks that `proxy` has a tuned model"
        return Window(self._tuned, self._tuned.top)

    def _load(self) -> Model:
        model = Model.load(self.bundle, self._layers, self._options)
        self._prefixes.serve(model.below(self.bundle.manifest.split).partitions)
        return model

    def start(self, request: GenerationRequest, prompt: list[int] | None = None) -> Generation:
        """Check a request against this engine and return the generation, ready to be iterated.

        Args:
            prompt: its tokens, where they are known already.

        Raises:
            RequestError: it can never be served here as asked.
        """
        self._check(request)
        manifest = self.bundle.manifest
        if prompt is None and request.prompt_tokens is not None:
            prompt = _checked(request.prompt_tokens, manifest.architecture.vocabulary_size)
        if prompt is None:
            prompt = self.tokenizer.encode(request.prompt)
        if manifest.overflow == "refuse" and request.mode != "request":
            _check_length(len(prompt), request.max_tokens, manifest.architecture.context_length)
        if request.mode == "bounded":
            self.commitment(request)  # refused here, before anything is computed
        if request.mode == "auto":
            choice = self.pilot.choose(request, len(prompt))
            request = replace(request, mode=choice.mode, wire=choice.wire)
        generation = Generation(self, request, prompt)
        sources = [f"exit_{exit_.layer}" for exit_ in manifest.exits]
        generation.result.decisions = dict.fromkeys([*sources, "cloud", "stop"], 0)
        return generation

    def _check(self, request: GenerationRequest) -> None:
        """Refuse what this engine cannot do, whatever the prompt."""
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
        if request.mode == "proxy" and self._tuned is None:
            raise RequestError(
                "mode 'proxy' needs a tuned small model on this device: give --tuned BUNDLE, or "
                "tuned in the configuration"
            )
        if request.mode == "request" and request.logprobs is not None:
            raise RequestError(
                "logprobs: mode 'request' has another model answer, whose probabilities are not "
                "told; choose another mode, or leave them out"
            )
        if request.wire not in manifest.codecs:
            raise RequestError(
                f"wire codec {request.wire!r} is not one of bundle {manifest.name!r}: choose from "
                f"{', '.join(manifest.codecs)}"
            )
        exits = [exit_.layer for exit_ in manifest.edge_exits]
        if request.exit_layer is not None and request.exit_layer not in exits:
            raise RequestError(
                f"exit_layer {request.exit_layer}: the exits of bundle {manifest.name!r} on the "
                f"edge are {', '.join(map(str, exits))}"
            )


def _check_tuned(bundle: Bundle, tuned: Bundle) -> None:
    own, other = bundle.manifest, tuned.manifest
    if _token_meaning(tuned) != _token_meaning(bundle):
        raise BundleError(
            f"{tuned.folder}: its tokens are not those of bundle {own.name!r}: proxy tuning adds "
            "logits token by token, so tune a model that has the same tokenizer"
        )
    limit = own.architecture.context_length
    if other.architecture.context_length < limit:
        raise BundleError(
            f"{tuned.folder}: its context of {other.architecture.context_length} is shorter than "
            f"that of bundle {own.name!r}, {limit}"
        )


def _token_meaning(bundle: Bundle) -> tuple[str, frozenset[int], int]:
    """Return what two bundles have in common when a token means the same to both."""
    manifest = bundle.manifest
    digest = manifest.files[manifest.tokenizer.file].sha256
    return digest, manifest.tokenizer.ends, manifest.architecture.vocabulary_size


def _checked(tokens: tuple[int, ...], vocabulary_size: int) -> list[int]:
    """Return a prompt that came as tokens."""
    if not tokens:
        raise RequestError("prompt_tokens are empty: give at least one token")
    if not 0 <= min(tokens) <= max(tokens) < vocabulary_size:
        raise RequestError(
            f"prompt_tokens hold {min(tokens)} to {max(tokens)}, tokens are 0 to "
            f"{vocabulary_size - 1}"
        )
    return list(tokens)


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
