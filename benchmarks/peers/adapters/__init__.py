"""One file a peer.  The file imports its library inside functions only, so that the harness can read

LIBRARY      module to import: tells whether the peer is installed, and row W5's import
ENVIRONMENT  name of its virtual environment; None for the interpreter that runs the harness
VARIANTS     workload -> ways to run it; a name that ends in "-tuned" gets the environment
             variables of `runner.TUNED` as well
INSTRUCTION_SETS  whether environment variables can hold it to an older instruction set
Engine       a class made with (variant, threads), with those of these methods that VARIANTS
             promises; images are NHWC, kernels HWIO, labels int64:
    trainer(network, x, y, batch) -> epoch(rows: int64 (steps, batch)) -> mean loss
    fit(network, training, validation, batch, epochs) -> (validation loss, accuracy)
    predictor(network, batch) -> f(x) -> probabilities
    convolution(case, x, kernel, dy) -> (forward, backward input, backward kernel)
    max_pool(x, dy) -> (forward, backward)
    softmax_cross_entropy(logits, labels) -> f() -> loss, gradient computed as well

What `epoch` and the functions without arguments start, they finish before they return.
"""
