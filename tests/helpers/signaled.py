"""`painterjax.train` that sends itself a signal before a step, or in the evaluation.

python -m tests.helpers.signaled STEP|evaluation SIGNAL [the arguments of painterjax.train]
"""

import os
import signal
import sys

from painterjax import train
from painterjax.common import cli
from painterjax.distributed import processes
from painterjax.run import evaluation
from painterjax.training import trainer

if __name__ == "__main__":
    moment, number = sys.argv[1], signal.Signals[sys.argv[2]]
    del sys.argv[1:3]
    run = trainer.Training.run

    def signaled(self, state, batch, count):
        if str(state.step) == moment:
            os.kill(os.getpid(), number)
        return run(self, state, batch, count)

    trainer.Training.run = signaled
    if moment == "evaluation":
        evaluation.evaluate = lambda *_, **__: os.kill(os.getpid(), number)
    cli.run(train.main, "train", processes.leave)
