"""`painterjax.train` that sends itself a signal before a step, or in the evaluation.

python -m tests.signaled STEP|evaluation SIGNAL [the arguments of painterjax.train]
"""

import os
import signal
import sys

from painterjax import cli, cluster, evaluate, train, wiring

if __name__ == "__main__":
    moment, number = sys.argv[1], signal.Signals[sys.argv[2]]
    del sys.argv[1:3]
    run = wiring.Training.run

    def signaled(self, state, batch, count):
        if str(state.step) == moment:
            os.kill(os.getpid(), number)
        return run(self, state, batch, count)

    wiring.Training.run = signaled
    if moment == "evaluation":
        evaluate.evaluate = lambda _: os.kill(os.getpid(), number)
    cli.run(train.main, "train", cluster.leave)
