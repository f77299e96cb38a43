"""`painterjax.train` that sends itself a signal before a step.

python -m tests.signaled STEP SIGNAL [the arguments of painterjax.train]
"""

import os
import signal
import sys

from painterjax import cli, cluster, train, wiring

if __name__ == "__main__":
    step, number = int(sys.argv[1]), signal.Signals[sys.argv[2]]
    del sys.argv[1:3]
    run = wiring.Training.run

    def signaled(self, state, batch, count):
        if int(state.step) == step:
            os.kill(os.getpid(), number)
        return run(self, state, batch, count)

    wiring.Training.run = signaled
    cli.run(train.main, "train", cluster.leave)
