"""A Triton Inference Server: the one inside of nvidia-pytriton, which wants NumPy 1 for itself, but not for its server.

pip install --no-deps nvidia-pytriton
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_KINDS = {"INT32": np.int32, "FP32": np.float32}


@contextmanager
def serving(models: Path, folder: Path, port: int) -> Iterator[str]:
    """The address of a server of these models, which keeps what it needs in a folder."""
    found = importlib.util.find_spec("pytriton")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs Triton Inference Server: pip install --no-deps nvidia-pytriton")
    home = Path(found.submodule_search_locations[0])
    own = home / "tritonserver"
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = own / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(own / "backends" / "python").glob("*.*"), stub):
        (backend / file.name).symlink_to(file)
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(home.parent / "nvidia_pytriton.libs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # whose Python the model runs in
    }
    linked = subprocess.run(["ldd", stub], env=environment, capture_output=True, text=True)
    if linked.returncode or "not found" in linked.stdout:
        pytest.skip(f"needs what Triton's Python {version} is linked with: {linked.stdout}{linked.stderr}")
    command = [own / "bin" / "tritonserver", f"--model-repository={models}", f"--backend-directory={backend.parent}"]
    command += ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        while not _is_ready(address):
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(120)


def _is_ready(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{address}/v2/health/ready", timeout=10):
        return True
    return False


def infer(address: str, model: str, name: str, values: NDArray[np.uint8]) -> tuple[int, dict[str, NDArray] | str]:
    """The status, and the outputs by name or the error, of a request with one input."""
    given = {"name": name, "datatype": "UINT8", "shape": values.shape}
    given["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    request = urllib.request.Request(f"{address}/v2/models/{model}/infer", head + values.tobytes(), headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            place, body = int(answer.headers["Inference-Header-Content-Length"]), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]
    outputs = {}
    for output in json.loads(body[:place])["outputs"]:
        end = place + output["parameters"]["binary_data_size"]
        outputs[output["name"]] = np.frombuffer(body[place:end], _KINDS[output["datatype"]]).reshape(output["shape"])
        place = end
    return 200, outputs
