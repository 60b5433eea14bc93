# SPDX-License-Identifier: Apache-2.0
"""Perceiver, Perceiver IO, Slot Attention and SVQ in JAX and Flax.

Every module here that has a `main` is a command: `python -m perceiver_jax.main --config=configs/solids.py`.
"""

__version__ = "0.1.0"
