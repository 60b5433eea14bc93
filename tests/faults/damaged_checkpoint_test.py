# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with changed, missing or added files: found, named, and never restored."""

import functools
import json
import os
import shutil

import jax
import numpy as np
import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.training import manifest
from perceiver_jax.training.checkpoint import Checkpoints
from tests.training.saved import make_state, restored_step, save, step_folders, step_folders_and_others, target


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(bytes(content))


def test_a_flipped_byte_in_any_file_is_found_and_named(tmp_path, caplog):
    save(tmp_path, 1, 2)
    line = json.loads((tmp_path / "committed.jsonl").read_text().splitlines()[1])
    files = [p for p in (tmp_path / "2").rglob("*") if p.is_file()]
    assert len(files) > 5 and manifest.find_damage(tmp_path / "2", line["manifest"]) is None
    for path in files:
        size = path.stat().st_size
        for position in {0, size // 3, size - 1}:
            flip(path, position)
            assert str(path) in manifest.find_damage(tmp_path / "2", line["manifest"]), position
            flip(path, position)
        flip(path, size // 2)
        caplog.clear()
        assert restored_step(tmp_path) == 1
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert str(path) in caplog.text and "trying step 1" in caplog.text
        flip(path, size // 2)
    assert restored_step(tmp_path) == 2


def test_any_single_changed_byte_of_any_file_is_found_and_named(tmp_path):
    save(tmp_path, 1)
    digest = json.loads((tmp_path / "committed.jsonl").read_text())["manifest"]
    random, step = np.random.default_rng(0), tmp_path / "1"
    files = sorted(p for p in step.rglob("*") if p.is_file())
    assert {p.name for p in files} >= {manifest.NAME, "_CHECKPOINT_METADATA", "metadata"}
    for path in files:
        intact = path.read_bytes()
        for position in random.integers(len(intact), size=20):
            changed = bytearray(intact)
            changed[position] ^= random.integers(1, 256)
            path.write_bytes(changed)
            assert str(path) in manifest.find_damage(step, digest), (path, position)
        path.write_bytes(intact)
    assert manifest.find_damage(step, digest) is None


def test_a_manifest_with_sha256_is_checked_by_it(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_describe", functools.partial(manifest._describe, kind="sha256"))
    save(tmp_path, 1)
    monkeypatch.undo()
    text = (tmp_path / "1" / manifest.NAME).read_text()
    assert "sha256" in text and "crc32" not in text and restored_step(tmp_path) == 1
    flip(tmp_path / "1" / "progress" / "metadata", 0)
    with pytest.raises(ConfigError, match="metadata does not match its sha256"):
        restored_step(tmp_path, 1)


def test_a_damaged_manifest_does_not_hide_what_fits(tmp_path):
    save(tmp_path, 1, 2)
    for damage in (lambda p: flip(p, 3), lambda p: p.write_bytes(b"{"), lambda p: p.unlink()):
        damage(tmp_path / "2" / manifest.NAME)
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            checkpoints.check_fits(target())
            with pytest.raises(ConfigError, match=f"checkpoint {tmp_path / '1'} does not fit"):
                checkpoints.check_fits({"other": jax.ShapeDtypeStruct((2,), "float32")})


def truncate(folder):
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    os.truncate(path, path.stat().st_size // 2)
    return path


def remove_file(folder):
    path = folder / "progress" / "metadata"
    path.unlink()
    return path


def add_file(folder):
    (folder / "state" / "extra").touch()
    return folder / "state" / "extra"


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def lose(folder):
    shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize("damage", [truncate, remove_file, add_file, empty, lose])
def test_damage_is_named_and_the_next_older_step_used(tmp_path, caplog, damage):
    save(tmp_path, 1, 2)
    path = damage(tmp_path / "2")
    with pytest.raises(ConfigError, match=rf"step 2 is damaged: {path}.*Choose another of \[1\]"):
        restored_step(tmp_path, 2)
    assert restored_step(tmp_path) == 1 and str(path) in caplog.text
    damage(tmp_path / "1")
    with pytest.raises(ConfigError, match=r"no intact checkpoint \(damaged: \[1, 2\]\)"):
        restored_step(tmp_path)


def test_training_goes_on_over_a_damaged_step(tmp_path):
    save(tmp_path, 1, 2, 3, scores={3: 1.0}, keep_latest=3)
    truncate(tmp_path / "3")
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert checkpoints.restore(target())[2] == 2 and checkpoints.best() is None
        checkpoints.save(3, make_state(3), {"at": 3})
    assert restored_step(tmp_path) == 3 and step_folders(tmp_path) == [2, 3]


def test_a_damaged_best_gives_the_next_best(tmp_path, caplog):
    save(tmp_path, 1, 2, 3, scores={1: 0.8, 2: 0.9, 3: 0.7}, keep_latest=3)
    truncate(tmp_path / "2")
    assert restored_step(tmp_path, "best", keep_latest=3) == 1 and "step 2 is damaged" in caplog.text


def test_what_was_never_promised_is_removed_with_a_line(tmp_path, caplog):
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1]
    assert step_folders_and_others(tmp_path) == ["1", "2", "3.orbax-checkpoint-tmp"]
    assert restored_step(tmp_path) == 1
    assert step_folders_and_others(tmp_path) == ["1"]
    assert f"removing {tmp_path / '2'}" in caplog.text and "3.orbax-checkpoint-tmp" in caplog.text


def test_a_torn_last_line_promised_nothing(tmp_path):
    save(tmp_path, 1, 2)
    ledger = tmp_path / "committed.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    assert restored_step(tmp_path, read_only=True) == 1
    save(tmp_path, 3)
    assert step_folders(tmp_path) == [1, 3] and restored_step(tmp_path) == 3


def test_a_flipped_byte_in_the_ledger_loses_at_most_its_line_and_removes_nothing(tmp_path, caplog):
    save(tmp_path, 1, 2)
    ledger = tmp_path / "committed.jsonl"
    intact = ledger.read_bytes()
    for position in range(0, len(intact) - 1, 7):
        flip(ledger, position)
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.steps() in ([1], [2], [1, 2]), position
        assert step_folders(tmp_path) == [1, 2] and "damaged" in caplog.text
        ledger.write_bytes(intact)
    flip(ledger, len(intact) - 1)  # the line break at the end
    assert restored_step(tmp_path) == 2
    save(tmp_path, 3, keep_latest=3)
    assert restored_step(tmp_path) == 3


def test_steps_without_a_ledger_are_an_error_and_stay(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "committed.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"steps \[1\] but no committed.jsonl"):
        Checkpoints(tmp_path)
    assert step_folders(tmp_path) == [1]


def test_a_ledger_that_lost_its_promises_is_no_fresh_start(tmp_path):
    save(tmp_path, 1, 2)
    ledger = tmp_path / "committed.jsonl"
    intact = ledger.read_bytes()
    for content in (b"", intact.replace(b"step", b"stop")):
        ledger.write_bytes(content)
        with pytest.raises(ConfigError, match="promises no step any more"):
            Checkpoints(tmp_path)
        assert step_folders(tmp_path) == [1, 2]
    ledger.write_bytes(intact)
    assert restored_step(tmp_path) == 2
