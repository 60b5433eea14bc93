# SPDX-License-Identifier: Apache-2.0
from perceiver_jax.data.perturbation import STRENGTHS
from perceiver_jax.data.solids import Solids
from perceiver_jax.reports import perturbations


def test_every_strength_is_measured_on_its_own_source_and_printed(capsys):
    source, seen = Solids(num_points=8), []

    def accuracy(perturbed):
        seen.append(perturbed)
        return 0.5

    perturb = perturbations.measure(accuracy, source, 0.75)
    assert len(seen) == len({id(each) for each in seen}) == sum(map(len, STRENGTHS.values()))
    assert perturb["clean"] == 0.75 and {kind: len(each) for kind, each in perturb["accuracy"].items()} == {
        kind: len(strengths) for kind, strengths in STRENGTHS.items()
    }
    printed = capsys.readouterr().out
    assert "75.00 % without" in printed and printed.count("50.00\xa0%") == len(seen)
