# SPDX-License-Identifier: Apache-2.0
"""Random numbers as a pure function of (seed, stream name, counters, example id), for whole batches at once.

A key per example seeds a SplitMix64 sequence (Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators"): number k of a key is the finaliser of `key + (k + 1) * GAMMA`, so nothing depends on what
was drawn before or for which other examples. Not for cryptography. Bits and uniforms are the same on every
machine; normals agree to the last digits of the platform's float32 logarithm and cosine.
"""

import zlib
from collections.abc import Iterator

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 16384  # 64-bit numbers worked on at a time: the passes of the finaliser stay in the L2 cache


def keys(seed: int, stream: str, ids: np.ndarray, *counters: int) -> np.ndarray:
    """One uint64 key per example id; `counters` (e.g. the epoch) are 64-bit integers, also negative."""
    state = np.asarray([zlib.crc32(stream.encode())], np.uint64)
    for counter in (seed, *counters):
        state = _mix(state * GAMMA + np.uint64(int(counter) % 2**64) + GAMMA)
    return _mix(_mix(np.asarray(ids).astype(np.uint64) * GAMMA + state) ^ state)


def bits(key: np.ndarray, n: int) -> np.ndarray:
    """(len(key), n) uint64, each bit a fair coin."""
    steps = np.arange(1, n + 1, dtype=np.uint64) * GAMMA
    numbers = np.empty((len(key), n), np.uint64)
    for rows in _blocks(len(key), n):
        np.add(key[rows, None], steps, out=numbers[rows])
        _mix(numbers[rows], in_place=True)
    return numbers


def uniform(key: np.ndarray, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """(len(key), *shape) float32 in [low, high), on a grid of 2**-24 of the range."""
    n = int(np.prod(shape))
    steps = np.arange(1, (n + 1) // 2 + 1, dtype=np.uint64) * GAMMA
    numbers = np.empty((len(key), 2 * len(steps)), np.float32)
    for rows in _blocks(len(key), len(steps)):
        block = _mix(key[rows, None] + steps, in_place=True).view(np.uint32)
        np.right_shift(block, 8, out=block)
        np.multiply(block, np.float32(2.0**-24), out=numbers[rows], casting="unsafe", dtype=np.float32)
    numbers = numbers[:, :n].reshape(len(key), *shape)
    if (low, high) != (0.0, 1.0):
        numbers = numbers * np.float32(high - low) + np.float32(low)
    return numbers


def normal(key: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(len(key), *shape) float32 standard normals (Box and Muller 1958); the largest possible is 5.8."""
    n = int(np.prod(shape))
    half = (n + 1) // 2
    numbers = uniform(key, (2, half))
    for rows in _blocks(len(key), half):
        radius = np.sqrt(-2 * np.log(1 - numbers[rows, 0]))
        angle = np.float32(2 * np.pi) * numbers[rows, 1]
        np.multiply(radius, np.cos(angle), out=numbers[rows, 0])
        np.multiply(radius, np.sin(angle), out=numbers[rows, 1])
    return numbers.reshape(len(key), 2 * half)[:, :n].reshape(len(key), *shape)


def permutation(n: int, seed: int, stream: str, *counters: int) -> np.ndarray:
    """A random order of 0..n-1, int64: the order of their keys."""
    return np.argsort(keys(seed, stream, np.arange(n), *counters), kind="stable")


def _blocks(num_rows: int, row: int) -> Iterator[slice]:
    size = max(1, BLOCK // max(1, row))
    return (slice(start, start + size) for start in range(0, num_rows, size))


def _mix(state: np.ndarray, in_place: bool = False) -> np.ndarray:
    """SplitMix64's finaliser: a bijection of 64 bits in which every input bit flips half of the output."""
    out = state if in_place else state.copy()
    out ^= out >> np.uint64(30)
    out *= np.uint64(0xBF58476D1CE4E5B9)
    out ^= out >> np.uint64(27)
    out *= np.uint64(0x94D049BB133111EB)
    out ^= out >> np.uint64(31)
    return out
