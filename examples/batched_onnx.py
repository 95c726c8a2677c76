"""Many streams in one call of a network.

pip install onnx onnxruntime
streamer serve examples/batched_onnx.py:Classifier
streamer check examples/batched_onnx.py:Classifier

The weights are random (seeded), so what it says means nothing; what it shows is the way of a batch: segments of
different length are padded to one array, one call answers for all, and each gets its own answer back.
"""

import numpy as np

import streamer

CLASSES = ("speech", "music", "machine", "silence")
WINDOW, HOP, BANDS, HIDDEN = 400, 160, 64, 128


class Classifier(streamer.Model):
    sample_rate = 16_000
    max_batch_size = 16
    max_batch_seconds = 60.0  # of audio in one call, padding not counted
    max_batch_wait_ms = 5.0
    executor = "thread"  # onnxruntime releases the GIL

    def __init__(self, threads: int = 1):
        self.threads = threads

    def load(self):
        import onnxruntime  # noqa: PLC0415 (only the workers need it)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.network = onnxruntime.InferenceSession(random_network(), options, providers=["CPUExecutionProvider"])

    def infer(self, batch):
        spectra = [spectrum(item.samples) for item in batch]
        frames = max(len(one) for one in spectra)
        padded = np.zeros((len(batch), frames, BANDS), np.float32)
        weights = np.zeros((len(batch), frames, 1), np.float32)  # each real frame's part of its segment's mean
        for row, one in enumerate(spectra):
            padded[row, : len(one)] = one
            weights[row, : len(one)] = 1 / len(one)
        [chances] = self.network.run(None, {"spectra": padded, "weights": weights})
        return [{"class": CLASSES[row.argmax()], "probability": round(float(row.max()), 4)} for row in chances]


def spectrum(samples):
    """Log power in bands: float32 [frames, BANDS], of windows of 25 ms every 10 ms."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows)[:, 1 : 1 + 3 * BANDS]) ** 2
    return np.log(power.reshape(len(power), BANDS, 3).sum(axis=2) + 1e-6).astype(np.float32)


def random_network():
    """Return a small network as ONNX bytes: softmax(mean over frames of relu(x A) B)."""
    from onnx import TensorProto, checker, helper, numpy_helper  # noqa: PLC0415 (only the workers need it)

    chance = np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array((chance.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32), name)

    nodes = [
        helper.make_node("MatMul", ["spectra", "a"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["hidden"]),
        helper.make_node("Mul", ["hidden", "weights"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "frame_axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "b"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["chances"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info("spectra", TensorProto.FLOAT, ["batch", "frames", BANDS]),
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["batch", "frames", 1]),
        ],
        [helper.make_tensor_value_info("chances", TensorProto.FLOAT, ["batch", len(CLASSES)])],
        [
            weight("a", BANDS, HIDDEN),
            weight("b", HIDDEN, len(CLASSES)),
            numpy_helper.from_array(np.array([1], np.int64), "frame_axis"),
        ],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(network)
    return network.SerializeToString()
