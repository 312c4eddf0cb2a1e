"""Installs peers, each into a virtual environment of its own under PEERS_HOME (~/.cache/peers):

    python -m benchmarks.peers.install              # all
    python -m benchmarks.peers.install torch jax    # some

A peer that cannot be installed is reported and the rest go on.
"""

from __future__ import annotations

import subprocess
import sys
import venv

from .runner import adapter, home, peers, python_of

# Packages of every environment; where the first line fails, the second is tried.
PACKAGES: dict[str, list[list[str]]] = {
    "numpy": [["numpy"]],
    "torch": [["torch", "numpy"]],
    "jax": [["jax", "jaxlib", "numpy"]],
    "tf": [["tensorflow-cpu"], ["tensorflow"]],  # converts LiteRT's models, too
    "onnxrt": [["onnxruntime", "onnx", "numpy"]],
    "litert": [["ai-edge-litert", "numpy"]],
    "openvino": [["openvino", "onnx", "numpy"]],
}


def install(name: str) -> str:
    """Makes the environment of that name; returns why it could not be, or nothing."""
    folder = home() / name
    python = python_of(folder)
    if not python.exists():
        venv.create(folder, with_pip=True)
    reason = ""
    for packages in PACKAGES[name]:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return ""
        reason = (result.stderr.strip().splitlines() or ["pip failed"])[-1]
    return reason


def main(argv: list[str]) -> int:
    environments = {peer: adapter(peer).ENVIRONMENT for peer in peers() if adapter(peer).ENVIRONMENT}
    unknown = [peer for peer in argv if peer not in environments]
    if unknown:
        print(f"Unknown peer {', '.join(unknown)}. Expected some of {', '.join(environments)}.",
              file=sys.stderr)
        return 2
    failed = 0
    for peer in argv or environments:
        reason = install(environments[peer])
        failed += bool(reason)
        outcome = f"failed: {reason}" if reason else f"installed in {home() / environments[peer]}"
        print(f"{peer}: {outcome}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
