# SPDX-License-Identifier: Apache-2.0
"""A spec survives JSON."""

import json

import pytest

from perceiver_jax.data.properties import Property
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.errors import ConfigError


def test_round_trip_through_json():
    arrays = {"image": ArraySpec((32, 32, 3), "uint8"), "label": ArraySpec((), "int32")}
    spec = Spec(arrays, class_names=("a", "b"), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), max_length=29)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_round_trip_of_the_defaults():
    spec = Spec({"points": ArraySpec((4, 3), "float32")})
    again = Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec and again.max_length is None and again.class_names == ()


def test_array_spec_normalises_what_numpy_accepts():
    assert ArraySpec((2, 3), "f4") == ArraySpec((2, 3), "float32")
    assert ArraySpec((2, 3), "float32") != ArraySpec((3, 2), "float32")


def test_lengths_vary_in_the_arrays_that_begin_with_the_longest():
    arrays = {"x": ArraySpec((9, 3), "float32"), "mask": ArraySpec((9,), "bool"), "label": ArraySpec((), "int32")}
    spec = Spec(arrays, max_length=9)
    assert spec.varying() == ("x", "mask") and Spec(arrays).varying() == ()
    assert spec.at_length(5).arrays == arrays | {"x": ArraySpec((5, 3), "float32"), "mask": ArraySpec((5,), "bool")}
    assert spec.at_length(5).max_length == 9


def test_properties_survive_json_and_have_their_columns():
    properties = (Property("x", scale=6.0), Property("shape", 3))
    spec = Spec({"properties": ArraySpec((4, 5), "float32")}, properties=properties)
    fields = json.loads(json.dumps(spec.to_dict()))
    assert Spec.from_dict(fields) == spec
    for damage in ({"arrays": {}}, {"properties": [{"name": "x"}]}, {"properties": [{"name": "x", "classes": 3}]}):
        with pytest.raises(ConfigError, match="damaged"):
            Spec.from_dict(fields | damage)
