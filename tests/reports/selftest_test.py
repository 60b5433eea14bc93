# SPDX-License-Identifier: Apache-2.0
"""Every kind of figure is drawn; the command needs no run."""

import numpy as np
from PIL import Image

from perceiver_jax.reports import selftest


def test_the_command_draws_every_kind_without_a_run(run_forked, tmp_path):
    result = run_forked("visualize", "selftest", f"--workdir={tmp_path}", "--format=png")
    assert result.rc == 0, result.stderr
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {f"{name}.png" for name in selftest.KINDS}
    for name in selftest.KINDS:
        picture = np.asarray(Image.open(tmp_path / "figures" / f"{name}.png").convert("L"))
        assert picture.min() < 100 and picture.max() == 255 and min(picture.shape) > 200, name
        assert f"{name}.png" in result.stdout
