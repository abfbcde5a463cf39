"""One session: frames come in, work for forward passes and answers come out.

Plain state without threads or clocks. Frames may come while a pass with the session's work runs:
they change only what the pass does not read, and `settle` drops what they have overtaken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from updraft.cloud.completion import Completion, check_tokens
from updraft.cloud.context import Context, Layers, Terms
from updraft.cloud.drafts import Drafts, check_drafts
from updraft.cloud.events import Cost, Event, NeedFrom, Outlet, Pick, Query, Token, Verdict
from updraft.cloud.foreseen import Foreseen, Frame, Replacement
from updraft.cloud.generation import Generation
from updraft.cloud.inputs import Inputs, Rows, decode_tokens, frame_bytes, most_bytes
from updraft.errors import ProtocolError, UpdraftError
from updraft.models.constraint import GRAMMAR_BYTES, ConstraintMatcher
from updraft.models.sampling import Mask

# Asks that may wait in one session; a client waits for each answer.
_MAX_ASKS = 64
# One more still fits the wire, when the last one ends by a rejection.
_LAST_EPOCH = 2**32 - 2
# A token and its logit on the wire, and how large a verdict with logits may become: clients take
# messages of up to 4 MiB.
_LOGIT_BYTES = 8
_VERDICT_BYTES = 1 << 20
# A token id as the model takes it.
_ROW_OF_TOKENS = 8


class Work(NamedTuple):
    """A session's part in a pass: inputs `start` to `stop` run, then the queries are answered.

    Attributes:
        queries: by row.
        completion: tokens of the completion up to the last query, where there is a constraint;
            the first of them is the input in row `first`, which may lie before the window.
        generates: the picks are the text.
    """

    session: Session
    context: Context
    start: int
    stop: int
    queries: list[Query]
    completion: list[int] | None = None
    first: int = 0
    generates: bool = False

    def mask_after(self, row: int) -> Mask | None:
        """Return the tokens that may follow an input; None: all.

        Raises:
            RequestError: the constraint cannot be followed so far.
        """
        matcher = self.session.matcher
        if matcher is None or self.completion is None:
            return None
        matcher.follow(self.completion[: max(0, row + 1 - self.first)])
        return matcher.mask()

    def ends_with(self, token: int) -> bool:
        """Whether nothing may follow a token that was picked by the last mask.

        Raises:
            RequestError: the constraint cannot be followed so far.
        """
        matcher = self.session.matcher
        if matcher is None or not self.generates:
            return False
        matcher.accept(token)
        return matcher.is_over


class _Ask(NamedTuple):
    epoch: int
    query: Query


class Session:
    """The cloud's side of one generation.

    Attributes:
        outlet: the stream; None while there is none.
        context: None until it is needed, and after it was spilled.
        computed: inputs whose KV the context holds.
        in_pass: its work is being computed.
        paused: its client reads too slowly to be given more of a generation.
        was_spilled: its context was given up and has to be computed again.
        waiting_since: when it began to wait for memory, by the monotonic clock.
        detached_since: when it lost its stream.
        uploads: `Upload` streams that are feeding it.
        matcher: follows the completion through the constraint; used by passes alone.
    """

    def __init__(
        self,
        session_id: str,
        layers: Layers,
        terms: Terms,
        eager: int,
        epoch: int = 0,
        matcher: ConstraintMatcher | None = None,
    ) -> None:
        """Start a session.

        Args:
            eager: so many inputs of a prompt are computed before anybody asks.
            matcher: of the constraint in the terms.
        """
        self.id = session_id
        self.terms = terms
        self.epoch = epoch
        self.outlet: Outlet | None = None
        self.context: Context | None = None
        self.computed = 0
        self.in_pass = False
        self.paused = False
        self.was_spilled = False
        self.waiting_since: float | None = None
        self.detached_since: float | None = None
        self.uploads = 0
        self.matcher = matcher
        self._completion = Completion(terms.start)
        self._layers = layers
        self._eager = eager
        self._tokens = terms.tokens
        self._most_judged = layers.shape.context_length
        if terms.logits_above is not None:
            logits_bytes = _LOGIT_BYTES * layers.shape.vocabulary_size
            self._most_judged = max(1, _VERDICT_BYTES // logits_bytes)
        self._row_bytes = _ROW_OF_TOKENS if terms.tokens else 4 * layers.shape.width
        self.inputs = Inputs(self._decode, layers.shape.context_length)
        self._window = 0
        self._sound = 0
        self._drafts = Drafts()
        self._replaced: Replacement | None = None
        self._foreseen = Foreseen(layers.shape.context_length)
        self._asks: list[_Ask] = []
        self._generation: Generation | None = None
        self._lost = False
        self._unpaid = Cost(0, 0.0)

    # What a client says.

    def put(
        self,
        epoch: int,
        position: int,
        count: int,
        payload: bytes,
        drafts: Sequence[int] = (),
        committed: Sequence[bool] = (),
        flush: bool = False,
        window_start: int = 0,
        if_replaced: Replacement | None = None,
        tokens: Sequence[int] = (),
    ) -> NeedFrom | None:
        """Take inputs, and drafts that follow the last of them; see `States` in the wire.

        Returns:
            What to ask the client for at once, if inputs from before have been lost.

        Raises:
            ProtocolError: the frame makes no sense.
        """
        if self._generation is not None:
            raise ProtocolError("frame 'states' does not belong in a generation")
        if epoch < self.epoch:
            return None
        self._check_epoch(epoch)
        check_drafts(count, drafts, committed, self._layers.shape.vocabulary_size)
        self._check_tokens(window_start, position, count, tokens)
        if if_replaced is not None and (epoch, if_replaced) != (self.epoch, self._replaced):
            if epoch == self.epoch + 1 and window_start == self._window:
                self.inputs.check(position, count, payload)
                frame = Frame(
                    position, count, payload, list(drafts), list(committed), flush, list(tokens)
                )
                self._foreseen.keep(if_replaced, frame)
            return None
        if epoch > self.epoch:
            self._enter(epoch, None, position)
        if window_start != self._window:
            self._window = window_start
            self._truncate(0)
            self._completion.clear()
        self._append(Frame(position, count, payload, drafts, committed, flush, tokens))
        return self._ask_again()

    def ask(self, epoch: int, length: int, position: int) -> NeedFrom | None:
        """Ask for the token that follows `length` inputs.

        Returns:
            What to ask the client for at once, if inputs from before have been lost.

        Raises:
            ProtocolError: the frame makes no sense, or too many wait for their answers.
        """
        if self._generation is not None:
            raise ProtocolError("frame 'ask' does not belong in a generation")
        limit = self._layers.shape.context_length
        if not 0 < length <= limit:
            raise ProtocolError(f"asked about {length} inputs, 1 to {limit} fit the context")
        if len(self._asks) >= _MAX_ASKS:
            raise ProtocolError(f"{_MAX_ASKS} asks wait already")
        if epoch >= self.epoch:
            self._asks.append(_Ask(epoch, Query(length - 1, position)))
        return self._ask_again()

    def generate(self, tokens: Sequence[int], max_tokens: int) -> None:
        """Decode the whole text here.

        Raises:
            ProtocolError: the session is in use already.
            RequestError: it cannot be served as asked.
        """
        if self.context is not None or self.inputs.held_bytes or self._asks:
            raise ProtocolError("frame 'generate' does not belong in a session in use")
        self._generation = Generation(self._layers.manifest, tokens, max_tokens)
        self._tokens = True
        if self.matcher is not None:
            self._completion.put(len(tokens), tokens[self.terms.start :])
        self._put_window()

    def resume(self, epoch: int, length: int, prefix_hash: bytes) -> bool:
        """Go on in a new epoch with the first inputs, if they are those that the client means.

        Raises:
            ProtocolError: the epoch has been used.
            DamagedInputs: a payload is not what it was when it came.
        """
        self._check_epoch(epoch)
        if self._generation is not None or length > self.inputs.length:
            return False
        if self.inputs.prefix_hash(length) != prefix_hash:
            return False
        if epoch < self.epoch:
            raise ProtocolError(f"resumed in epoch {epoch}, the session is in {self.epoch} already")
        self._enter(epoch, None, length)
        self.abandon()
        # The verdict on what follows the last sure input may have been lost on its way.
        self._drafts.reopen(max(0, length - 1))
        return True

    def abandon(self) -> None:
        """Drop whatever waits for an answer: nobody is there to read it."""
        self._drafts.clear()
        self._asks.clear()

    # What the scheduler and the store need to know.

    @property
    def takes_tokens(self) -> bool:
        """Whether all layers run here."""
        return self._tokens

    @property
    def generates(self) -> bool:
        """Whether the cloud decodes."""
        return self._generation is not None

    @property
    def held_bytes(self) -> int:
        """Memory taken."""
        inputs = self.inputs.held_bytes
        for frame in self._foreseen.frames:
            inputs += frame_bytes(frame.count, len(frame.payload), self._row_bytes)
        if self._generation is not None:  # grows by itself: all of it is taken at once
            inputs = most_bytes(self._layers.shape.context_length, _ROW_OF_TOKENS)
        inputs += self._completion.held_bytes
        inputs += 0 if self.matcher is None else GRAMMAR_BYTES
        return inputs + (0 if self.context is None else self.context.held_bytes)

    @property
    def waits(self) -> bool:
        """Whether any answer is due, be it that inputs for it are missing."""
        generates = self._generation is not None and not self._generation.done
        return generates or bool(self._asks) or self._wanted() > 0

    @property
    def is_unused(self) -> bool:
        """Whether nothing is lost with it."""
        return not (self.inputs.held_bytes or self.context is not None or self.waits)

    @property
    def can_be_lost(self) -> bool:
        """Whether its client can be asked for what would be given up, and waits for nothing."""
        return bool(self.inputs.held_bytes) and not self.generates and not self.is_ready

    @property
    def is_busy(self) -> bool:
        """Whether its context must stay."""
        return self.in_pass or self.is_ready

    @property
    def is_ready(self) -> bool:
        """Whether there is something to compute in the next pass."""
        if self.in_pass or self.outlet is None:
            return False
        waiting = self.inputs.length - self.computed
        # What was spilled stays so until somebody asks: others needed the room.
        if (
            waiting >= self._eager
            and not self.was_spilled
            and (self._unspeculative() >= self._eager)
        ):
            return True
        rows = self._due()
        return bool(rows) and (waiting > 0 or min(rows) < self.inputs.length)

    @property
    def is_answerable(self) -> bool:
        """Whether an answer is due whose inputs are all here."""
        return min(self._due(), default=self.inputs.length) < self.inputs.length

    def missing(self) -> NeedFrom | None:
        """Return what an answer waits for that is not here."""
        ahead = [ask.epoch for ask in self._asks if ask.epoch > self.epoch]
        if ahead:
            return NeedFrom(max(ahead), 0)
        if self._wanted() > self.inputs.length:
            return NeedFrom(self.epoch, self.inputs.length)
        return None

    # Passes.

    def make_context(self) -> None:
        """Take the memory for the context."""
        self.context = Context(self._layers, self._tokens)
        self.computed, self.was_spilled = 0, False

    def take(self, limit: int) -> Work:
        """Return work for a pass, at most `limit` inputs; the context must have been made.

        Raises:
            DamagedInputs: a payload is not what it was when it came.
        """
        assert self.context is not None, "make the context first"
        start, known = self.computed, self.inputs.length
        due = max(min(self._wanted(), known), start)
        if (unspeculative := self._unspeculative()) >= self._eager:
            due = max(due, start + unspeculative)
        stop = min(due, start + limit)
        self.context.truncate(start)
        if stop > start:
            self.context.bottom.append(self.inputs.rows(start, stop))
            self.inputs.release(stop)
        self.in_pass, self._sound = True, stop
        queries = self._queries(stop)
        if self.matcher is None:
            return Work(self, self.context, start, stop, queries)
        last = self._window + (queries[-1].row + 1 if queries else 0)
        completion = self._completion.before(last) if queries else []
        first = self.terms.start - self._window
        return Work(self, self.context, start, stop, queries, completion, first, self.generates)

    def settle(self, work: Work, picks: Mapping[Query, Pick], compute_s: float) -> list[Event]:
        """Take the outcome of a pass; returns the answers."""
        self.in_pass, self.computed = False, self._sound
        positions, seconds = self._unpaid
        self._unpaid = Cost(positions + work.stop - work.start, seconds + compute_s)
        # What frames have overtaken meanwhile is not answered: it was another text.
        sound = {query: pick for query, pick in picks.items() if query.row < self.computed}
        events = self._answer_asks(sound)
        events += self._judge(sound)
        if self._generation is not None:
            events += self._generate_next(self._generation, sound)
        return events

    def fail_pass(self, error: UpdraftError) -> None:
        """Take note that a pass failed: nobody knows what the context holds."""
        self.in_pass = False
        self.spill()
        self.abandon()
        if self.outlet is not None:
            self.outlet.fail(error)

    def spill(self) -> None:
        """Give the context's memory back; it is computed again from the inputs when needed."""
        self.was_spilled = self.computed > 0
        self.context, self.computed = None, 0
        self.inputs.release_all()

    def lose(self) -> None:
        """Give everything back; the client is asked for the inputs when it next says something."""
        self.spill()
        self.inputs.truncate(0)
        self._completion.clear()
        self._foreseen.clear()
        self._generation = None  # one is not resumed, and holds its memory to its end
        self._lost = True

    def close(self) -> None:
        """Give everything back for good."""
        self.lose()
        self.matcher = None

    def _answer_asks(self, picks: Mapping[Query, Pick]) -> list[Event]:
        events: list[Event] = []
        waiting = []
        for ask in self._asks:
            if ask.epoch == self.epoch and ask.query in picks:
                events.append(Token(ask.query.position, picks[ask.query], self._pay()))
            else:
                waiting.append(ask)
        self._asks = waiting
        return events

    def _judge(self, picks: Mapping[Query, Pick]) -> list[Event]:
        events: list[Event] = []
        judgements = self._drafts.judge(
            lambda row: picks.get(self._query_after(row)),
            rejecting=self.terms.logits_above is None,
            most=self._most_judged,
        )
        for row, judged, rejected in judgements:
            events.append(Verdict(self.epoch, row, judged, rejected, self._pay()))
            if rejected:
                length = row + len(judged)
                self._enter(self.epoch + 1, Replacement(length - 1, judged[-1].token), length)
        return events

    def _enter(self, epoch: int, replaced: Replacement | None, length: int) -> None:
        """Begin an epoch with the inputs before `length`, and with what was kept for it."""
        self.epoch, self._replaced = epoch, replaced
        self._truncate(length)
        if replaced is None:
            self._foreseen.clear()
            return
        for frame in self._foreseen.take(replaced):
            self._append(frame)

    def _append(self, frame: Frame) -> None:
        self.inputs.put(frame.position, frame.count, frame.payload)
        stop = frame.position + frame.count
        if self.matcher is not None:
            self._completion.put(self._window + stop, self._tokens_of(frame))
        self._drafts.put(stop - len(frame.drafts), frame.drafts, frame.committed)
        if frame.flush:
            self._drafts.flush(stop)

    def _generate_next(self, generation: Generation, picks: Mapping[Query, Pick]) -> list[Event]:
        query = self._query_after(self.inputs.length - 1)
        if generation.done or query not in picks:
            return []
        pick = picks[query]
        moved = generation.append(pick.token, pick.is_last)
        if self.matcher is not None:
            self._completion.put(query.position + 1, [pick.token])
        if moved:
            self._put_window()
        elif not generation.done:
            token = np.array([pick.token], "<u4").tobytes()
            self.inputs.put(self.inputs.length, 1, token)
        return [Token(query.position, pick, self._pay(), generation.done)]

    def _put_window(self) -> None:
        assert self._generation is not None, "a window of tokens is a generation's"
        self._window = self._generation.start
        self._truncate(0)
        window = np.array(self._generation.window, "<u4")
        self.inputs.put(0, len(window), window.tobytes())

    def _query_after(self, row: int) -> Query:
        return Query(row, self._window + row + 1)

    def _due(self) -> list[int]:
        """Return the inputs after which answers are due in this epoch."""
        rows = [ask.query.row for ask in self._asks if ask.epoch == self.epoch]
        rows += self._drafts.due()
        if self._generates_on:
            rows.append(self.inputs.length - 1)
        return rows

    def _queries(self, stop: int) -> list[Query]:
        """Return every place before `stop` where an answer is due in this epoch."""
        queries = {ask.query for ask in self._asks if ask.epoch == self.epoch}
        queries.update(map(self._query_after, self._drafts.due()))
        if self._generates_on:
            queries.add(self._query_after(self.inputs.length - 1))
        return sorted(query for query in queries if query.row < stop)

    @property
    def _generates_on(self) -> bool:
        return self._generation is not None and not (self._generation.done or self.paused)

    def _wanted(self) -> int:
        """Return how many inputs the answers that are due are based on."""
        return max(self._due(), default=-1) + 1

    def _unspeculative(self) -> int:
        """Return how many inputs wait that no verdict can void."""
        known = self.inputs.length
        return min(self._drafts.first(known) + 1, known) - self.computed

    def _truncate(self, length: int) -> None:
        self.inputs.truncate(length)
        if self.matcher is not None and self._generation is None:
            self._completion.truncate(self._window + length)
        self.computed = min(self.computed, length)
        self._sound = min(self._sound, length)
        self._drafts.truncate(length)
        self._asks = [ask for ask in self._asks if ask.epoch >= self.epoch]

    def _pay(self) -> Cost:
        unpaid, self._unpaid = self._unpaid, Cost(0, 0.0)
        return unpaid

    def _ask_again(self) -> NeedFrom | None:
        if not self._lost:
            return None
        self._lost = False
        return NeedFrom(self.epoch, 0) if self.inputs.length == 0 else None

    def _check_epoch(self, epoch: int) -> None:
        if epoch > _LAST_EPOCH:
            raise ProtocolError(f"epoch {epoch} came, {_LAST_EPOCH} is the last: open a session")

    def _check_tokens(
        self, window_start: int, position: int, count: int, tokens: Sequence[int]
    ) -> None:
        expected = 0
        if self.terms.constraint is not None:
            named = self.terms.tokens
            expected = self._completion.expected(window_start, position, count, named)
        check_tokens(tokens, expected, self._layers.shape.vocabulary_size)

    def _tokens_of(self, frame: Frame) -> Sequence[int]:
        """Return the tokens of the completion that a frame brings, up to its last input."""
        if not self.terms.tokens:
            return frame.tokens
        skip = max(0, self.terms.start - self._window - frame.position)
        own = np.frombuffer(frame.payload, "<u4")[skip:]
        return [*frame.tokens, *own.tolist()]

    def _decode(self, payload: bytes, count: int) -> Rows:
        shape = self._layers.shape
        if self._tokens:
            return decode_tokens(payload, count, shape.vocabulary_size)
        return self.terms.codec.decode(payload, count, shape.width)
