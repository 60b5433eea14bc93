# SPDX-License-Identifier: Apache-2.0
"""How a task is trained: optimizer and schedule, state and step, loop, evaluation, checkpoints, writers."""
