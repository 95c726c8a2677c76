"""A spoken answer to every utterance, by Debian's flite or espeak-ng as the voice.

apt-get install flite
streamer serve examples/spoken_reply.py:SpokenReply
python examples/barge_in.py FILE

The answer is yielded piece by piece, so that the client hears its beginning at once. A client that hears its user speak
again sends `clear`: the rest of the answer is dropped.
"""

import io
import shutil
import subprocess
import wave

import numpy as np

import streamer

PIECE_S = 0.2


class SpokenReply(streamer.Model):
    sample_rate = output_sample_rate = 16_000
    executor = "process"  # the voice is a program that could hang

    def __init__(self, text: str = "You spoke for {seconds:.1f} seconds. I am still listening, so please go on."):
        """Create a model. `text`: the answer; `{seconds}` is the length of the utterance."""
        self.text = text

    def load(self):
        self.voice = next((voice for voice in ("flite", "espeak-ng") if shutil.which(voice)), None)
        if self.voice is None:
            raise streamer.ModelFailed("expected flite or espeak-ng in PATH, got neither: apt-get install flite")

    def infer(self, batch):
        return [self.reply(item.seconds) if item.is_final else None for item in batch]

    def reply(self, seconds):
        text = self.text.format(seconds=seconds)
        yield {"said": text}
        samples = self.speak(text)
        piece = int(PIECE_S * self.output_sample_rate)
        for at in range(0, len(samples), piece):
            yield streamer.AudioOut(samples[at : at + piece], self.output_sample_rate)

    def speak(self, text):
        """Return the text as float32 [n] at 16 kHz."""
        to_file = ["-o", "/dev/stdout"] if self.voice == "flite" else ["--stdout"]
        command = ["flite", "-voice", "slt", "-t", text] if self.voice == "flite" else ["espeak-ng", text]
        spoken = subprocess.run([*command, *to_file], capture_output=True, check=True, timeout=10).stdout  # noqa: S603
        with wave.open(io.BytesIO(spoken)) as audio:
            rate = audio.getframerate()
            integers = np.frombuffer(spoken[44:], "<i2")  # a stream's header has no length
        samples = integers.astype(np.float32) / 32_768
        if rate == self.output_sample_rate:
            return samples
        places = np.arange(0, len(samples), rate / self.output_sample_rate)
        return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
