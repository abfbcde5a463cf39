"""Checkpoints that were trained with exits, by their configurations and tensor names."""

import pytest

from updraft.errors import BundleError
from updraft.models.exits.recognise import TrainedExit, recognise_exits

_PLAIN = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
_LLAMA = {"model_type": "llama", "num_hidden_layers": 8}


def test_a_plain_checkpoint_has_no_exits():
    assert recognise_exits(_LLAMA, _PLAIN, "Llama-3.2-1B") is None
    assert recognise_exits({}, _PLAIN) is None


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"_name_or_path": "facebook/layerskip-llama3.2-1B"}, ""),
        ({}, "layerskip-llama2-7B"),
        ({}, "LayerSkip-CodeLlama"),
    ],
)
def test_layerskip_leaves_after_any_layer_by_the_models_own_norm_and_head(config, name):
    found = recognise_exits(_LLAMA | config, _PLAIN, name)
    assert found.layout == "layerskip"
    assert found.exits == tuple(TrainedExit(layer) for layer in range(1, 8))


def test_ee_llm_names_its_norms_and_outputs():
    config = {"num_layers": 8, "exit_layer_nums": [2, 4], "untie_exit_output_weights": True}
    own = [
        "language_model.exit_output_layer.0.weight",
        "language_model.exit_output_layer.1.weight",
        "language_model.encoder.layers.1.exit_norm.weight",
        "language_model.encoder.layers.3.exit_norm.weight",
    ]
    found = recognise_exits(config | {"use_exit_norm": True}, [*_PLAIN, *own])
    assert found.layout == "ee-llm"
    assert found.exits == (TrainedExit(2, own[2], own[0]), TrainedExit(4, own[3], own[1]))


def test_ee_llm_before_its_layers_and_with_everything_shared():
    config = {"num_layers": 8, "exit_layer_nums": [1, 5, 8], "pre_exit": True}
    found = recognise_exits(config, _PLAIN)
    assert found.exits == (TrainedExit(4), TrainedExit(7))
    after = recognise_exits(config | {"pre_exit": False}, _PLAIN)
    assert [exit_.layer for exit_ in after.exits] == [1, 5]


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"exit_layer_nums": [9]}, [], "layers from 1 to 8 are expected"),
        ({"exit_layer_nums": "2"}, [], "layers from 1 to 8 are expected"),
        ({"exit_layer_nums": [True]}, [], "layers from 1 to 8 are expected"),
        (
            {"exit_layer_nums": [2, 4], "untie_exit_output_weights": True},
            ["exit_output_layer.0.weight"],
            "names 2 exits with outputs of their own, the checkpoint has exit_output_layer 0",
        ),
        ({"exit_layer_nums": [2], "use_exit_norm": True}, [], "there is no exit_norm for"),
        (
            {"exit_layer_nums": [2]},
            ["encoder.layers.1.exit_block.input_norm.weight"],
            "after layers 2 have layers of their own",
        ),
        (
            {"exit_layer_nums": [2]},
            ["encoder.layers.1.mlp.branch.dense_h_to_4h.weight"],
            "after layers 2 have layers of their own",
        ),
        ({}, ["exit_output_layer.0.weight"], "has no exit_layer_nums"),
    ],
)
def test_what_cannot_be_imported_is_named(config, tensors, message):
    with pytest.raises(BundleError, match=message):
        recognise_exits(_LLAMA | config, [*_PLAIN, *tensors])
