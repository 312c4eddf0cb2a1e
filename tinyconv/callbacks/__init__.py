"""Callbacks: functions that `fit`, `evaluate` and `predict` call at fixed moments.

Names, arguments and moments are those of Keras.  Left out: `RemoteMonitor` (tinyconv opens
no connections) and `SwapEMAWeights`.
"""

from __future__ import annotations

from tinyconv.callbacks.base import Callback, CallbackList, History, LambdaCallback
from tinyconv.callbacks.checkpoints import BackupAndRestore, ModelCheckpoint
from tinyconv.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from tinyconv.callbacks.logs import CSVLogger, ProgbarLogger
from tinyconv.callbacks.stopping import EarlyStopping, TerminateOnNaN
from tinyconv.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "History", "LambdaCallback",
    "LearningRateScheduler", "ModelCheckpoint", "ProgbarLogger", "ReduceLROnPlateau", "TensorBoard",
    "TerminateOnNaN",
]
