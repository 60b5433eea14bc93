# SPDX-License-Identifier: Apache-2.0
"""Tasks: what is learned from a batch and how it is scored. `base` is the contract, one module per task."""
