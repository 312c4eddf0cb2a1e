"""The process of one peer: `python worker.py SPECIFICATION`, with the peer's own interpreter.

SPECIFICATION is JSON: peer, workload, variant, threads, seconds, expected, batches,
processors.  The last line of the output is @@ and JSON: metrics, checks, version,
memory (peak, MB).  Run by its path, so that the project's folder is not on sys.path
and what is imported is what is installed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def peak_memory() -> float:
    """MB that this process had resident at most.  (getrusage would count what the parent had.)"""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage / 1e6 if sys.platform == "darwin" else usage * 1024 / 1e6


def main() -> None:
    specification = json.loads(sys.argv[1])
    if specification["processors"]:  # before any library looks at them
        os.sched_setaffinity(0, specification["processors"])
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from peers import measure

    adapter = importlib.import_module(f"peers.adapters.{specification['peer']}")
    engine = adapter.Engine(specification["variant"], specification["threads"])
    results = measure.Results(specification["seconds"], specification["expected"])
    try:
        measure.run(engine, specification["workload"], results, specification["batches"])
    except measure.Disagreement as error:
        sys.exit(f"Disagreement: {error}")
    library = sys.modules.get(adapter.LIBRARY.partition(".")[0])
    answer = {"metrics": results.metrics, "checks": results.checks,
              "version": getattr(library, "__version__", "?"), "memory": peak_memory()}
    sys.stdout.flush()
    print("\n@@" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
