# SPDX-License-Identifier: Apache-2.0
"""How codebooks are used, from the counts of their codes."""

import numpy as np
from jaxtyping import Float


def use_of_codebooks(
    counts: Float[np.ndarray, "num_blocks codebook_size"],
) -> dict[str, Float[np.ndarray, "num_blocks"]]:
    """For each codebook.

    Returns:
        `perplexity`: as many codes, used evenly, would be as hard to guess; `used` and `dead`: shares of its codes.
    """
    total = np.maximum(counts.sum(1, keepdims=True), 1e-9)
    share = counts / total
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    used = (counts > 0).mean(1)
    return {"perplexity": np.exp(entropy), "used": used, "dead": 1 - used}


def use_scores(counts: Float[np.ndarray, "num_blocks codebook_size"]) -> dict[str, float]:
    """Means over codebooks of `perplexity`, `codes_used` and `codes_dead`, and the least share of one that is used."""
    use = use_of_codebooks(counts)
    return {
        "perplexity": float(use["perplexity"].mean()),
        "codes_used": float(use["used"].mean()),
        "codes_used_min": float(use["used"].min()),
        "codes_dead": float(use["dead"].mean()),
    }
