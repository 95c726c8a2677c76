"""A recogniser as a class: loaded once per worker process, killed and replaced if it hangs or crashes.

pip install 'streamer-audio[pocketsphinx]'
streamer serve examples/recognition.py:Recogniser
streamer client -i FILE --real-time --interim-results

(`streamer serve pocketsphinx` is the same with word times; this is how little it takes.)
"""

import numpy as np

import streamer


class Recogniser(streamer.Model):
    sample_rate = 16_000
    executor = "process"  # the decoder holds the GIL while it works, and is native code that may crash
    workers = 2  # each with a decoder of its own

    def load(self):
        from pocketsphinx import Decoder  # noqa: PLC0415 (only the workers need it)

        self.decoder = Decoder(samprate=self.sample_rate, loglevel="FATAL")

    def infer(self, batch):
        return [self.recognise(item.samples) for item in batch]

    def recognise(self, samples):
        if not len(samples):
            return {"text": ""}
        self.decoder.reinit_feat()
        self.decoder.start_utt()
        self.decoder.process_raw((samples * 32767).astype(np.int16).tobytes(), full_utt=True)
        self.decoder.end_utt()
        heard = self.decoder.hyp()
        return {"text": heard.hypstr if heard else ""}
