"""The backend's text as tokens of this device."""

from concurrent.futures import Future

from updraft.edge.escalation import BackendSource
from updraft.proto.v1 import escalation_pb2 as pb

_BEGIN, _END = 1, 2


class Words:
    """A tokenizer whose texts begin with a token, and that has no token for some words."""

    begin_token, end_of_text = _BEGIN, _END

    def encode(self, text):
        return [_BEGIN, *(10 + len(word) for word in text.split() if word != "<s>")]


class Link:
    """Gives frames out in place of a coordinator."""

    text_s = open_s = 1.0

    def __init__(self, *frames):
        self._frames = list(frames)

    def call_soon(self, *_):
        pass

    def submit(self, work):
        work.close()
        answer = Future()
        answer.set_result(self._frames.pop(0))
        return answer


def pieces(*texts):
    made = [pb.EscalationAnswerResponse(piece=pb.Piece(text=text, tokens=1)) for text in texts]
    return Link(*made, pb.EscalationAnswerResponse(finish=pb.Finish(reason="stop")))


def drawn(link):
    source = BackendSource(link, pb.Question(max_tokens=9), Words())
    tokens = []
    while not tokens or tokens[-1][0] != _END:
        token = source.next([])
        tokens.append((token.token, token.text))
    return tokens


def test_pieces_do_not_begin_like_texts():
    assert drawn(pieces("one two", "three")) == [
        (13, "one two"), (13, ""), (15, "three"), (_END, ""),
    ]  # fmt: skip


def test_text_without_a_token_goes_with_the_next():
    assert drawn(pieces("<s>", " one")) == [(13, "<s> one"), (_END, "")]
    assert drawn(pieces("<s>")) == [(_END, "<s>")]
