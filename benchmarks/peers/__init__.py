"""tinyconv beside other engines: `python -m benchmarks.peers`.

workloads   what is run: networks, sizes, data
measure     how it is timed and checked; runs in the process of a peer
adapters/   one file a peer: the same work in its terms
worker      the process of one peer
runner      starts the workers, round by round
report      tables; plot: the chart
install     virtual environments for the peers
"""
