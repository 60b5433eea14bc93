# SPDX-License-Identifier: Apache-2.0
"""The names a config may use, and what they build: literal tables, one for each kind of part.

To add a part: write it where it belongs, add one line here. The keys of its config section are the fields of its
constructor, with their defaults; fields that other parts decide (the number of classes, the seed) are `given`. Models
and tasks are given the spec of the data and take from it what they need.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from perceiver_jax.data.babble import Babble
from perceiver_jax.data.codes import Codes
from perceiver_jax.data.drawings import Drawings
from perceiver_jax.data.image_set import ImageSet
from perceiver_jax.data.modelnet import ModelNet
from perceiver_jax.data.multi_object import MultiObject
from perceiver_jax.data.own import OwnExamples, OwnSequences
from perceiver_jax.data.own_scenes import OwnScenes
from perceiver_jax.data.patterns import Patterns
from perceiver_jax.data.scenes import Shapes, Sprites
from perceiver_jax.data.solids import Solids
from perceiver_jax.data.spec import ArraySpec, Spec
from perceiver_jax.data.text import Text
from perceiver_jax.data.timeseries import TimeSeries
from perceiver_jax.errors import ConfigError
from perceiver_jax.metrics.average_precision import Columns
from perceiver_jax.models.adapters import PointAdapter, SequenceAdapter, TokenAdapter
from perceiver_jax.models.block_slot_attention import BlockSlotAttention
from perceiver_jax.models.broadcast_decoders import ConvolutionDecoder, PixelDecoder
from perceiver_jax.models.code_prior import CodePrior
from perceiver_jax.models.decoders import PerceiverIO, QueryDecoder
from perceiver_jax.models.image_adapters import ConvolutionAdapter, ImageAdapter
from perceiver_jax.models.image_decoders import SceneDecoder, TransformerDecoder
from perceiver_jax.models.keras_perceiver import KerasPerceiver
from perceiver_jax.models.perceiver import Perceiver, PerceiverEncoder
from perceiver_jax.models.positions import FourierPositions, LearnedPositions
from perceiver_jax.models.set_predictor import SetPredictor
from perceiver_jax.models.slot_attention import SlotAttention
from perceiver_jax.models.slot_autoencoder import ConvolutionEncoder, PatchEncoder, SlotAutoencoder
from perceiver_jax.models.svq import SVQ
from perceiver_jax.tasks.classification import Classification
from perceiver_jax.tasks.code_prior import CodeModeling
from perceiver_jax.tasks.object_discovery import ObjectDiscovery
from perceiver_jax.tasks.set_prediction import SetPrediction
from perceiver_jax.tasks.svq import SemanticQuantization
from perceiver_jax.training.optim import make_optimizer
from perceiver_jax.training.schedules import make_schedule
from perceiver_jax.value_types import problem


@dataclasses.dataclass(frozen=True)
class Part:
    """What a name builds.

    Attributes:
        build: called with the section's values and what is `given`.
        constructors: whose parameters are the section's keys.
        given: parameters that do not stand in the section.
    """

    build: Callable[..., Any]
    constructors: tuple[Callable[..., Any], ...]
    given: tuple[str, ...] = ()

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keys of the section."""
        hidden = {"self", "parent", "name", *self.given}
        return {
            name: parameter
            for constructor in self.constructors
            for name, parameter in inspect.signature(constructor).parameters.items()
            if name not in hidden
        }


def _part(constructor: Callable[..., Any], *given: str) -> Part:
    return Part(constructor, (constructor,), given)


def _perceiver(*, spec: Spec, adapter: Any, pooling: str, zero_head: bool, dtype: Any, **encoder):
    return Perceiver(
        adapter=_adapter(spec, adapter),
        encoder=PerceiverEncoder(dtype=_dtype(dtype), parent=None, **encoder),
        num_classes=len(spec.class_names),
        pooling=pooling,
        zero_head=zero_head,
    )


def _perceiver_io(*, spec: Spec, adapter: Any, query_dim: int | None, dtype: Any, **fields):
    """What encoder and decoder both have, they have alike."""
    fields["dtype"] = _dtype(dtype)

    def fields_of(module: type) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name in inspect.signature(module).parameters}

    return PerceiverIO(
        adapter=_adapter(spec, adapter),
        encoder=PerceiverEncoder(parent=None, **fields_of(PerceiverEncoder)),
        decoder=QueryDecoder(parent=None, **fields_of(QueryDecoder)),
        num_classes=len(spec.class_names),
        query_dim=query_dim,
    )


def _keras_perceiver(*, spec: Spec, adapter: Any, dtype: Any, **fields) -> KerasPerceiver:
    widths = {name: tuple(fields.pop(name)) for name in ("ffn_units", "classifier_units")}
    return KerasPerceiver(
        adapter=_adapter(spec, adapter),
        num_classes=len(spec.class_names),
        dtype=_dtype(dtype),
        **widths,
        **fields,
    )


def _slot_autoencoder(*, spec: Spec, encoder: Any, decoder: Any, feature_dim: int, dtype: Any, **slots):
    """One dtype for all, and the image's size for the decoder."""
    dtype, (image_size, _, _) = _dtype(dtype), spec.arrays["image"].shape
    return SlotAutoencoder(
        encoder=build("encoder", encoder, dtype=dtype),
        slot_attention=SlotAttention(dtype=dtype, parent=None, **slots),
        decoder=_scene_decoder(decoder, dtype=dtype, image_size=image_size),
        feature_dim=feature_dim,
    )


def _set_predictor(*, spec: Spec, encoder: Any, feature_dim: int, head_dim: int, dtype: Any, **slots) -> SetPredictor:
    """One dtype for encoder and slot attention."""
    if "properties" not in spec.arrays:
        raise ConfigError(
            "set prediction needs data with properties: expected clevr_with_masks, or shapes or sprites with "
            "config.data.num_colours and num_sizes; got none."
        )
    return SetPredictor(
        encoder=build("encoder", encoder, dtype=_dtype(dtype)),
        slot_attention=SlotAttention(dtype=_dtype(dtype), parent=None, **slots),
        num_columns=spec.arrays["properties"].shape[-1],
        feature_dim=feature_dim,
        head_dim=head_dim,
    )


def _svq(*, spec: Spec, encoder: Any, decoder: Any, dtype: Any, **fields):
    """As for `_slot_autoencoder`; a decoder of tokens knows the blocks, one that draws a scene is wrapped."""
    dtype, (image_size, _, _) = _dtype(dtype), spec.arrays["image"].shape
    given = {"dtype": dtype, "image_size": image_size}
    if as_section("decoder", decoder)["name"] == "transformer":
        decoder = build("decoder", decoder, num_blocks=fields["num_blocks"], **given)
    else:
        decoder = SceneDecoder(_scene_decoder(decoder, **given))
    own = {name: fields.pop(name) for name in inspect.signature(SVQ).parameters if name in fields}
    slots = BlockSlotAttention(dtype=dtype, parent=None, **fields)
    return SVQ(encoder=build("encoder", encoder, dtype=dtype), slot_attention=slots, decoder=decoder, **own)


def _scene_decoder(section: Any, **given: Any):
    """A decoder that shows each slot alone."""
    if as_section("decoder", section)["name"] == "transformer":
        raise ConfigError("config.decoder.name='transformer': only config.model.name='svq' decodes by image tokens.")
    return build("decoder", section, **given)


def _code_prior(*, spec: Spec, dtype: Any, **fields) -> CodePrior:
    """Slots and blocks are those of the data."""
    num_slots, num_blocks = spec.arrays["codes"].shape
    return CodePrior(num_slots=num_slots, num_blocks=num_blocks, dtype=_dtype(dtype), **fields)


def _dtype(name: Any) -> jnp.dtype:
    if name not in DTYPES:
        raise ConfigError(f"config.model.dtype={name!r} is unknown: expected {', '.join(DTYPES)}.")
    return jnp.dtype(name)


def _adapter(spec: Spec, section: Any):
    """An adapter with its positions and what it needs to know of the data."""
    section = as_section("adapter", section)
    shapes = [array.shape for name, array in spec.arrays.items() if name not in ("label", "mask")]
    facts = {"mean": spec.mean, "std": spec.std, "max_length": spec.max_length, "num_channels": shapes[0][-1]}
    facts["positions"] = build("positions", section.pop("positions", None))
    part = find("adapter", section["name"])
    return build("adapter", section, **{name: facts[name] for name in part.given})


def _classification(*, spec: Spec, **fields) -> Classification:
    """Its input is the one array that is neither the label nor the mask."""
    (input_name,) = (name for name in spec.arrays if name not in ("label", "mask"))
    shape = spec.arrays[input_name].shape
    if (fields["mixup_alpha"] or fields["cutmix_alpha"]) and len(shape) != 3:
        raise ConfigError(f"mixup_alpha, cutmix_alpha: only images are mixed, {input_name} has shape {shape}. Use 0.")
    names = {"num_classes": len(spec.class_names), "class_names": spec.class_names}
    return Classification(input_name=input_name, **names, **fields)


def _of_objects(task: type) -> Callable:
    """`attributes` has a row for each object there may be."""

    def make(*, spec: Spec, **fields):
        attributes = spec.arrays.get("attributes")
        return task(max_objects=attributes.shape[0] if attributes else 0, **fields)

    return make


def _set_prediction(*, spec: Spec, **fields) -> SetPrediction:
    """What the columns say stands in the spec."""
    scales = tuple(each.scale for each in spec.properties if not each.num_classes)
    classes = tuple(each.num_classes for each in spec.properties if each.num_classes)
    return SetPrediction(columns=Columns(scales, classes), **fields)


def _code_modeling(*, spec: Spec, model: CodePrior, autoencoder: Any, image_size: int) -> CodeModeling:
    """The autoencoder is built as in its own run, and must make the codes that the data are."""
    image = Spec({"image": ArraySpec((image_size, image_size, 3), "uint8")})
    autoencoder = build("model", autoencoder, spec=image)
    slots = autoencoder.slot_attention
    made = slots.num_slots, slots.num_blocks, autoencoder.codebook_size
    modelled = model.num_slots, model.num_blocks, model.codebook_size
    if made != modelled:
        raise ConfigError(
            f"codes of {modelled} slots, blocks and codes a block: the autoencoder makes {made}. Use the data, and the "
            "codebook_size, of the run that the prior begins with."
        )
    return CodeModeling(model=model, autoencoder=autoencoder, image_size=image_size)


def _optimizer(*, learning_rate: float, **fields):
    """`learning_rate` stands in the optimizer's section, where people look for it, and goes to the schedule."""
    del learning_rate
    return make_optimizer(**fields)


def _rate(learning_rate: float):
    """The one key of the optimizer's section beside `make_optimizer`'s."""


PARTS: dict[str, dict[str, Part]] = {
    "data": {
        "solids": _part(Solids, "seed"),
        "modelnet": _part(ModelNet, "seed"),
        "patterns": _part(Patterns, "seed"),
        "timeseries": _part(TimeSeries, "seed"),
        "babble": _part(Babble, "seed"),
        "text": _part(Text, "seed"),
        "images": _part(ImageSet, "seed"),
        "drawings": _part(Drawings, "seed"),
        "shapes": _part(Shapes, "seed"),
        "sprites": _part(Sprites, "seed"),
        "multi_object": _part(MultiObject, "seed"),
        "own_scenes": _part(OwnScenes, "seed"),
        "own": _part(OwnExamples, "seed"),
        "codes": _part(Codes, "seed"),
        "own_sequences": _part(OwnSequences, "seed"),
    },
    "positions": {
        "fourier": _part(FourierPositions),
        "learned": _part(LearnedPositions),
    },
    "adapter": {
        "points": _part(PointAdapter, "positions"),
        "image": _part(ImageAdapter, "positions", "mean", "std"),
        "convolution": _part(ConvolutionAdapter, "positions", "mean", "std"),
        "sequence": _part(SequenceAdapter, "positions", "max_length", "num_channels"),
        "tokens": _part(TokenAdapter, "positions", "max_length"),
    },
    "encoder": {
        "convolutions": _part(ConvolutionEncoder, "dtype"),
        "patches": _part(PatchEncoder, "dtype"),
    },
    "decoder": {
        "convolutions": _part(ConvolutionDecoder, "dtype", "image_size"),
        "pixels": _part(PixelDecoder, "dtype", "image_size"),
        "transformer": _part(TransformerDecoder, "dtype", "image_size", "num_blocks"),
    },
    "model": {
        "perceiver": Part(_perceiver, (Perceiver, PerceiverEncoder), ("encoder", "num_classes")),
        "perceiver_io": Part(
            _perceiver_io,
            (PerceiverIO, PerceiverEncoder, QueryDecoder),
            ("encoder", "decoder", "num_classes"),
        ),
        "keras_perceiver": Part(_keras_perceiver, (KerasPerceiver,), ("num_classes",)),
        "slot_autoencoder": Part(_slot_autoencoder, (SlotAutoencoder, SlotAttention), ("slot_attention",)),
        "set_predictor": Part(_set_predictor, (SetPredictor, SlotAttention), ("slot_attention", "num_columns")),
        "svq": Part(_svq, (SVQ, BlockSlotAttention), ("slot_attention",)),
        "code_prior": Part(_code_prior, (CodePrior,), ("num_slots", "num_blocks")),
    },
    "task": {
        "classification": Part(
            _classification, (Classification,), ("model", "input_name", "num_classes", "class_names")
        ),
        "object_discovery": Part(_of_objects(ObjectDiscovery), (ObjectDiscovery,), ("model", "max_objects")),
        "set_prediction": Part(_set_prediction, (SetPrediction,), ("model", "columns")),
        "svq": Part(_of_objects(SemanticQuantization), (SemanticQuantization,), ("model", "max_objects")),
        "code_prior": Part(_code_modeling, (CodeModeling,), ("model",)),
    },
    "optimizer": {name: Part(_optimizer, (_rate, make_optimizer)) for name in ("lamb", "adamw", "adam")},
    "schedule": {
        name: Part(make_schedule, (make_schedule,), ("learning_rate", "num_steps", "steps_per_epoch"))
        for name in ("constant", "cosine", "exponential", "flat_cosine", "multistep", "step")
    },
}


NAMED = ("optimizer", "schedule")
"""Kinds whose constructor serves all names and is told which."""
DTYPES = ("float32", "bfloat16", "float16")
"""What can be computed in."""


def find(kind: str, name: str) -> Part:
    """The part of this name; ConfigError names the known and nearest ones."""
    parts = PARTS[kind]
    if name not in parts:
        raise ConfigError(
            f"config.{kind}.name={name!r} is unknown{nearest(name, parts)}: expected one of {', '.join(parts)}."
        )
    return parts[name]


def build(kind: str, section: Any, **given: Any) -> Any:
    """Builds the part a section describes; the section is splatted once into its constructor.

    Raises:
        ConfigError: the section has an unknown name or key, lacks one, or a value has the wrong type; what the
            constructor finds wrong.
    """
    values = as_section(kind, section)
    part = find(kind, values["name"])
    parameters = part.parameters()
    if problems := _wrong_fields(kind, values, parameters):
        raise ConfigError(" ".join(problems))
    if kind not in NAMED:
        values.pop("name")
    return part.build(**_defaults(parameters) | values, **given)


def as_section(kind: str, section: Any) -> dict[str, Any]:
    """A copy of the section; ConfigError if it is none."""
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        known = ", ".join(PARTS[kind])
        raise ConfigError(f"config.{kind}={section!r}: expected a section whose name is one of {known}.")
    return dict(section)


def _defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """What the constructors say of keys that a run of an older version lacks, a type by its name."""
    defaults = {name: parameter.default for name, parameter in parameters.items() if name != "name"}
    known = {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}
    return {name: getattr(value, "__name__", value) for name, value in known.items()}


def _wrong_fields(kind: str, values: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Unknown keys, missing ones and values of another type than their parameter, a sentence each."""
    known = {*parameters, "name"}
    problems = [
        f"config.{kind}.{printable(key)} is unknown{nearest(key, known)}." for key in values if key not in known
    ]
    for key, parameter in parameters.items():
        if key in values:
            wrong = problem(f"config.{kind}.{key}", values[key], parameter.annotation)
            problems += [wrong] if wrong else []
        elif parameter.default is parameter.empty:
            problems.append(f"config.{kind} ({values['name']}) needs a value for {key}.")
    return problems


def printable(key: str) -> str:
    """A key as a message shows it, on one line."""
    return key if key.isprintable() else repr(key)


def nearest(word: str, known) -> str:
    """`; did you mean 'x'?` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
