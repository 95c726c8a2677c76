"""A real Triton server with two models in Python: one counts samples, one keeps a sum for each sequence."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.architecture import ROOT

HOME = ROOT / "build/triton"
SERVER = HOME / "pytriton/tritonserver"
STUB = SERVER / f"python_backend_stubs/3.{sys.version_info.minor}/triton_python_backend_stub"
START_S = 120.0

_TENSORS = """
max_batch_size: 16
backend: "python"
input [ { name: "AUDIO" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
_IMPORTS = f"""
import sys
sys.path.insert(0, {str(HOME / "packages")!r})
import numpy as np
import triton_python_backend_utils as triton

def tensor(request, name):
    return triton.get_input_tensor_by_name(request, name).as_numpy()

def answer(counts):
    return triton.InferenceResponse([triton.Tensor("COUNT", np.array(counts, np.int32))])
"""
_MODELS = {
    "counter": (
        "dynamic_batching { max_queue_delay_microseconds: 2000 }",
        """
class TritonPythonModel:
    def execute(self, requests):
        audio = [tensor(request, "AUDIO") for request in requests]
        return [answer([[each.shape[1]]] * len(each)) for each in audio]
""",
    ),
    "summer": (
        """
sequence_batching {
  max_sequence_idle_microseconds: %d
  oldest { max_candidate_sequences: 4 }
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } ] },
    { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
}
""",
        """
class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        answers = []
        for request in requests:
            sequence = int(tensor(request, "ID").reshape(-1)[0])
            if tensor(request, "START").reshape(-1)[0]:
                self.sums[sequence] = 0
            self.sums[sequence] += tensor(request, "AUDIO").shape[1]
            answers.append(answer([[self.sums[sequence]]]))
            if tensor(request, "END").reshape(-1)[0]:
                del self.sums[sequence]
        return answers
""",
    ),
}


def missing() -> str:
    """Why there is no Triton; empty if there is one."""
    if not (SERVER / "bin/tritonserver").exists() or not (HOME / "packages/numpy").is_dir():
        return "Triton is not in build/triton: run `make test-triton`"
    if not STUB.exists():
        return f"this Triton has no models on Python 3.{sys.version_info.minor}"
    unlinked = subprocess.run(["ldd", STUB], capture_output=True, text=True, check=False).stdout
    lost = [line.split()[0] for line in unlinked.splitlines() if "not found" in line]
    return f"Triton's models need {', '.join(lost)}" if lost else ""


class Triton:
    """A server in a folder of its own, on a port that it keeps when it is started again."""

    def __init__(self, folder: Path, *, idle_s: float = 600.0) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        backend = folder / "backends/python"
        shutil.copytree(SERVER / "backends/python", backend)
        (backend / STUB.name).symlink_to(STUB)  # its libraries are found from where it really is
        for name, (scheduling, code) in _MODELS.items():
            place = folder / "models" / name
            (place / "1").mkdir(parents=True)
            text = scheduling % (idle_s * 1e6) if "%d" in scheduling else scheduling
            (place / "config.pbtxt").write_text(_TENSORS + text)
            (place / "1/model.py").write_text(_IMPORTS + code)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, and wait until the port answers: Triton opens it once its models are loaded."""
        output = self._folder / "log"
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    SERVER / "bin/tritonserver",
                    f"--model-repository={self._folder / 'models'}",
                    f"--backend-directory={self._folder / 'backends'}",
                    "--grpc-address=127.0.0.1",
                    f"--grpc-port={self._port}",
                    "--allow-http=false",
                    "--allow-metrics=false",
                    "--disable-auto-complete-config",
                ],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_S
        while not self._is_up():
            assert self._process.poll() is None, output.read_text()[-4_000:]
            assert time.monotonic() < end, output.read_text()[-4_000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server; its models' processes see that it has gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Let the server end in order, with the processes of its models."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def _is_up(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def __enter__(self) -> Triton:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
