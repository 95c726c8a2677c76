"""A wake word: a streaming model that listens on, piece by piece, and says when it is called.

pip install pymicro-wakeword
streamer serve examples/wake_word.py:WakeWord --set model.word=okay_nabu
streamer client -i FILE -a ws://localhost:8080/api/v1/simple

The answer to a piece is {"heard": false}, or {"heard": true, "word": ..., "time": ...} with seconds of the stream.
A word is told once: until its probability has fallen, it is the same one.
"""

from dataclasses import dataclass

import numpy as np
from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

import streamer

FEATURE_S = 0.01


@dataclass
class Listener:
    """One channel. `features`: of 10 ms each, so far. `called`: the word that was heard last goes on."""

    network: MicroWakeWord
    frontend: MicroWakeWordFeatures
    features: int = 0
    called: bool = False


class WakeWord(streamer.StreamingModel):
    sample_rate = 16_000
    max_batch_size = 16

    def __init__(self, word: str = "okay_nabu"):
        """`word`: okay_nabu, hey_jarvis, hey_mycroft or alexa."""
        self.word = Model(word)

    def open(self, info: streamer.StreamInfo):
        return Listener(MicroWakeWord.from_builtin(self.word), MicroWakeWordFeatures())

    def step(self, states, batch):
        return [(state, self.listen(state, item)) for state, item in zip(states, batch, strict=True)]

    def listen(self, state, item):
        samples = (np.clip(item.samples, -1, 1) * 32_767).astype("<i2").tobytes()
        answer = {"heard": False}
        for features in state.frontend.process_streaming(samples):
            state.features += 1
            probability = state.network.process_streaming_prob(features)
            called = probability is not None and probability > state.network.probability_cutoff
            if called and not state.called:
                time = round(state.features * FEATURE_S, 2)
                answer = {"heard": True, "word": state.network.wake_word, "time": time}
            if probability:  # it is 0 between two looks
                state.called = called
        return answer

    def close(self, state):
        state.network.close()
