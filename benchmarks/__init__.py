# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what a training step and the data cost on this machine, beside peers. They are not tests."""
