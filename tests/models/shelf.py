"""Models of every shape a user may name, for the loading tests."""

from streamer.models.contract import Model, model


@model(sample_rate=8_000)
def peak(samples):
    return {"peak": float(abs(samples).max())}


class Scaled(Model):
    name = "scaled"

    def __init__(self, gain: float, label: str = "x"):
        self.gain = gain
        self.label = label

    def infer(self, batch):
        return [{self.label: float(item.samples.sum()) * self.gain} for item in batch]


class Bare(Model):
    def infer(self, batch):
        return [None for _ in batch]


class Broken(Model):
    def __init__(self):
        raise OSError("no weights at /nowhere")


built = Scaled(2.0)


def factory(gain: float = 3.0):
    return Scaled(gain)


def undecorated(samples):
    return 1


def wrong():
    return 5


not_a_model = 7
