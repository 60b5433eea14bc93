# SPDX-License-Identifier: Apache-2.0
"""When something is due: the one rule for logging, evaluation and checkpoints."""


def every(step: int, n: int, last: int) -> bool:
    """Whether something done every n steps is due after `step` steps.

    Args:
        step: steps done, 1 for the first.
        n: 0 or less means never.
        last: the last step of the run, at which everything that is done at all is done.
    """
    return n > 0 and step > 0 and (step % n == 0 or step == last)
