"""A codec and a real session in one step: frames in, frames out, with a scorer and a model that answer at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from streamer.audio.deferred_decoder import decode_samples
from streamer.protocols.codec import Codec, Reply
from streamer.session.actions import Action, Cancel, Close, Emit, Infer, Job, Outcome, Score
from streamer.session.messages import Message
from streamer.session.session import Session
from streamer.session.settings import SessionSettings
from streamer.testing.fakes import loudness

FrameT = TypeVar("FrameT")


class Played(Generic[FrameT]):
    """One connection without a transport. Answers of the model are held while `held` is set."""

    def __init__(
        self, codec: Codec[FrameT], settings: SessionSettings, answer: Callable[[Job], Outcome], *, held: bool = False
    ) -> None:
        self.codec = codec
        self.session = Session(settings, "s", 0.0)
        self.held = held
        self.sent: list[FrameT] = []
        self.close: Close | None = None
        self._answer = answer
        self._jobs: deque[Job] = deque()
        self._do(codec.begin())

    def receive(self, *frames: FrameT) -> list[FrameT]:
        """Take frames of the client; return what was sent since the last call."""
        for frame in frames:
            if self.close is not None:
                break
            steps = self.codec.decode(frame)
            self._do(steps if isinstance(steps, list) else [steps])
        sent, self.sent = self.sent, []
        return sent

    def answer(self) -> list[FrameT]:
        """Answer the held jobs; return what was sent for it."""
        while self._jobs:
            self._infer(self._jobs.popleft())
        sent, self.sent = self.sent, []
        return sent

    def finish(self) -> list[FrameT]:
        """Finish the stream as a drain does; return what was sent for it."""
        self._perform(self.session.finish(1.0))
        return self.answer()

    def _do(self, steps: Sequence[Message | Reply[FrameT]]) -> None:
        for step in steps:
            if isinstance(step, Reply):
                self.sent.append(step.frame)
            else:
                self._perform(self.session.receive(step, 1.0))

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Emit(event):
                    self._send(self.codec.encode(event))
                case Score(channel, samples):
                    self._perform(self.session.on_scores(channel, loudness(decode_samples(samples)).tolist(), 1.0))
                case Infer(job):
                    if self.held:
                        self._jobs.append(job)
                    else:
                        self._infer(job)
                case Cancel(number):
                    self._jobs = deque(job for job in self._jobs if job.id != number)
                case Close():
                    self.close = action

    def _infer(self, job: Job) -> None:
        self._perform(self.session.on_outcome(job.id, self._answer(job), 1.0))

    def _send(self, encoded: FrameT | list[Reply[FrameT]] | None) -> None:
        if isinstance(encoded, list):
            self.sent += [reply.frame for reply in encoded]
        elif encoded is not None:
            self.sent.append(encoded)
