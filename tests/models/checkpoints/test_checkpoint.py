"""Checkpoint folders: those of the real classes are read whole, those that disagree are refused."""

import json

import jinja2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import decoders, processors

from updraft.errors import BundleError
from updraft.models.checkpoints.checkpoint import open_checkpoint
from updraft.models.recipes.tokenizer import train_tokenizer

_INDEX = "model.safetensors.index.json"
_LAYER = "model.layers.1.mlp.down_proj.weight"


def refusal(folder, context=None):
    with pytest.raises(BundleError) as refused:
        open_checkpoint(folder, context)
    return str(refused.value)


def change_tensors(folder, change):
    """Let a function change the tensors of a checkpoint in one file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def change_tokenizer(folder, change):
    tokenizer = train_tokenizer(["def add(a, b):\n    return a + b\n"], 288)
    change(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))


def _begin_with(tokens):
    return processors.TemplateProcessing(single=f"{tokens} $A", special_tokens=[("<|end|>", 0)])


@pytest.mark.parametrize(
    "name", ["llama-bias-one-kv-head", "qwen2", "qwen3", "mixtral", "qwen2-moe", "qwen3-moe"]
)
def test_every_weight_of_a_model_is_read_once_and_as_it_is(checkpoint_of, name):
    folder, model = checkpoint_of(name)
    checkpoint = open_checkpoint(folder)
    saved = load_file(folder / "model.safetensors")
    found = sorted(weight.tobytes() for weight in checkpoint.weights.values())
    assert found == sorted(tensor.numpy().tobytes() for tensor in saved.values())
    final = model.model.norm.weight.detach().numpy()
    # Exits that were not trained have the norm that the head was trained with.
    for layer in (1, checkpoint.architecture.layers):
        assert f"exit_norms.{layer}.weight" in checkpoint.weights
        np.testing.assert_array_equal(checkpoint.weights[f"exit_norms.{layer}.weight"], final)
    assert checkpoint.architecture.tied == model.config.tie_word_embeddings


def test_shards_hold_the_same_as_one_file(checkpoint_of, tmp_path):
    folder, model = checkpoint_of("llama")
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole, sharded = open_checkpoint(folder), open_checkpoint(tmp_path)
    assert whole.weights.keys() == sharded.weights.keys()
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(sharded.weights[name], weight)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    said = refusal(tmp_path)
    assert "1 of " in said
    assert f"shards are missing: '{shard.name}'; fetch the checkpoint again" in said


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        (None, "weight_map: an object"),
        ({}, "weight_map: an object"),
        ({"a": 3}, "'3' is no file of this folder"),
        ({"a": "../x.safetensors"}, "'../x.safetensors' is no file of this folder"),
        ({"a": "/etc/x.safetensors"}, "is no file of this folder"),
        ({"a": "x\0.safetensors"}, "is no file of this folder"),
        ({"a": "pytorch_model.bin"}, "'pytorch_model.bin' is no file of this folder"),
        ({"lost.weight": "model.safetensors"}, "lacks 'lost.weight', which"),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(damaged, weight_map, reason):
    folder = damaged()
    (folder / _INDEX).write_text(json.dumps({"weight_map": weight_map}))
    assert reason in refusal(folder)


def test_a_model_that_ties_its_embedding_may_hold_the_head_too(damaged):
    folder = damaged("qwen2")
    change_tensors(
        folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    )
    assert open_checkpoint(folder).architecture.tied
    change_tensors(folder, lambda t: t["lm_head.weight"].mul_(2))
    assert "tie_word_embeddings is true, and model.safetensors holds" in refusal(folder)


def test_where_nothing_is_said_a_head_of_its_own_is_not_tied(damaged, configure):
    for name, tied in (("llama", False), ("qwen2", True)):
        folder = damaged(name)
        configure(folder, tie_word_embeddings=None)
        assert open_checkpoint(folder).architecture.tied == tied


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.pop(_LAYER), f"lacks {_LAYER}, which config.json asks for"),
        (lambda t: [t.pop(k) for k in list(t) if ".2." in k], "and 6 more tensors, which"),
        (
            lambda t: t.update({_LAYER: t[_LAYER].T}),
            "has shape [96, 64], config.json asks for [64, 96]",
        ),
        (lambda t: t.update({_LAYER: t[_LAYER].to(torch.int8)}), f"{_LAYER} has dtype I8"),
        (lambda t: t.update({_LAYER: t[_LAYER].to(torch.float8_e4m3fn)}), "has dtype F8_E4M3"),
        (
            lambda t: t.update({"model.layers.4.x": torch.zeros(3)}),
            "gives no place to model.layers.4.x",
        ),
        (
            lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}),
            "gives no place to model.layers.0.self_attn.q_proj.bias",
        ),
        (lambda t: t.pop("lm_head.weight"), "lacks lm_head.weight"),
    ],
)
def test_tensors_that_the_configuration_contradicts_are_named(damaged, change, reason):
    folder = damaged()
    change_tensors(folder, change)
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 3}, "gives no place to model.layers.3.input_layernorm.weight, "),
        ({"num_hidden_layers": 5}, "lacks model.layers.4.input_layernorm.weight, "),
        ({"intermediate_size": 128}, "has shape [96, 64], config.json asks for [128, 64]"),
        ({"num_key_value_heads": 4}, "has shape [32, 64], config.json asks for [64, 64]"),
        ({"vocab_size": 320}, "model.embed_tokens.weight has shape"),
        ({"attention_bias": True}, "lacks model.layers.0.self_attn.q_proj.bias, "),
        ({"tie_word_embeddings": True}, "holds a lm_head.weight that differs"),
        ({"architectures": ["Qwen3ForCausalLM"]}, "lacks model.layers.0.self_attn.q_norm.weight"),
        ({"eos_token_id": None}, "eos_token_id is missing"),
        ({"eos_token_id": 5}, "eos_token_id 5 is "),
        ({"eos_token_id": [0, 10_000]}, "eos_token_id 10000 is None in tokenizer.json"),
        ({"eos_token_id": "0"}, "eos_token_id: at most 64 whole numbers"),
    ],
)
def test_a_configuration_that_the_tensors_or_tokens_contradict_is_refused(
    damaged, configure, changes, reason
):
    folder = damaged()
    (folder / "generation_config.json").unlink()
    configure(folder, **changes)
    assert reason in refusal(folder)


def test_values_that_are_no_numbers_are_found_when_they_are_read(damaged):
    folder = damaged()
    change_tensors(folder, lambda t: t[_LAYER][3, 4].fill_(float("nan")))
    checkpoint = open_checkpoint(folder)
    with pytest.raises(BundleError, match=f"{_LAYER} holds NaN: the checkpoint is damaged"):
        checkpoint.weights["layers.1.down.weight"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "config.json is missing"),
        ({"config.json": b"{"}, "config.json: not JSON"),
        ({"config.json": b"[]"}, "a JSON object is expected"),
        ({"config.json": b" " * (1 << 20) + b"{}"}, "larger than 1048576 bytes"),
        ({"config.json": b"version https://git-lfs.github.com/spec/v1"}, "run `git lfs pull`"),
        ({"config.json": b'{"architectures": ["LlamaForCausalLM"]}'}, "it has neither"),
        (
            {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "pytorch_model.bin": b""},
            "which are pickles and run code when they are opened",
        ),
        (
            {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "a.safetensors": b""},
            "neither model.safetensors nor",
        ),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, files, reason):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert reason in refusal(tmp_path)


def test_a_folder_that_is_not_there_is_not_fetched(tmp_path):
    said = refusal(tmp_path / "Qwen/Qwen2.5-0.5B")
    assert "there is no such checkpoint folder; nothing is fetched" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.add_tokens([f"more{n}" for n in range(40)]), "tokens, the model knows"),
        (lambda t: setattr(t, "decoder", decoders.WordPiece()), "its decoder WordPiece"),
        (
            lambda t: setattr(
                t, "post_processor",
                _begin_with("<|end|> <|end|>"),
            ),
            "puts 2 tokens before a text",
        ),
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_model_is_refused(damaged, change, reason):
    folder = damaged()
    change_tokenizer(folder, change)
    assert reason in refusal(folder)


def test_a_tokenizer_that_is_missing_or_broken_is_refused(damaged):
    folder = damaged()
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: not a tokenizer" in refusal(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"")
    assert "tokenizer.json is missing (tokenizer.model alone is not read)" in refusal(folder)


def test_a_tokenizer_that_breaks_its_library_is_refused(damaged):
    folder = damaged()
    path = folder / "tokenizer.json"
    written = json.loads(path.read_text())
    # Its length makes the library cut pieces within a character.
    written["model"]["continuing_subword_prefix"] = "\0\0"
    path.write_text(json.dumps(written))
    assert f"{path}: not a tokenizer: " in refusal(folder)


def test_a_vocabulary_much_smaller_than_the_models_is_another_models(damaged, configure):
    folder = damaged()
    rows = 4096

    def grow(tensors):
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = torch.zeros(rows, 64)

    change_tensors(folder, grow)
    configure(folder, vocab_size=rows)
    assert f"tokens, the model knows {rows}: that is more than padding" in refusal(folder)


def test_end_and_begin_tokens_and_the_template_are_carried_over(damaged, configure):
    folder = damaged()

    def add(tokenizer):
        tokenizer.add_special_tokens(["<s>", "<|im_end|>"])

    change_tokenizer(folder, add)
    known = train_tokenizer(["def add(a, b):\n    return a + b\n"], 288)
    add(known)
    begin, end = known.token_to_id("<s>"), known.token_to_id("<|im_end|>")
    configure(folder, "generation_config.json", eos_token_id=[end, 0])
    configure(
        folder, "tokenizer_config.json", bos_token={"content": "<s>"}, add_bos_token=True,
        eos_token="<|end|>", chat_template="{{ messages[0].content }}",
    )  # fmt: skip
    found = open_checkpoint(folder).vocabulary
    assert (found.end_of_text, found.stop_tokens, found.begin_token) == (0, (end,), begin)
    assert found.chat_template == "{{ messages[0].content }}"
    configure(folder, "tokenizer_config.json", add_bos_token=False, eos_token=None)
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    configure(folder, "tokenizer_config.json", chat_template=named)
    found = open_checkpoint(folder).vocabulary
    assert (found.end_of_text, found.stop_tokens, found.begin_token) == (end, (0,), None)
    assert found.chat_template == "yes"
    (folder / "chat_template.jinja").write_text("of its own file")
    assert open_checkpoint(folder).vocabulary.chat_template == "of its own file"


def test_a_template_knows_the_begin_token_that_the_tokenizer_puts_nowhere(damaged, configure):
    folder = damaged()
    change_tokenizer(folder, lambda tokenizer: tokenizer.add_special_tokens(["<s>"]))
    template = "{{ bos_token }}{{ messages[0].content }}"
    configure(
        folder, "tokenizer_config.json", bos_token="<s>", add_bos_token=False,
        chat_template=template,
    )  # fmt: skip
    found = open_checkpoint(folder).vocabulary
    assert found.begin_token is None
    made = jinja2.Template(found.chat_template).render(messages=[{"content": "hi"}])
    assert made == "<s>hi"
    configure(folder, "tokenizer_config.json", add_bos_token=True)
    assert open_checkpoint(folder).vocabulary.chat_template == template


def test_what_the_tokenizer_puts_first_is_the_begin_token(damaged):
    folder = damaged()

    def begin(tokenizer):
        tokenizer.post_processor = _begin_with("<|end|>")

    change_tokenizer(folder, begin)
    assert open_checkpoint(folder).vocabulary.begin_token == 0


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, None),
        (
            {"README.md": "---\ntags:\n- x\nlicense: apache-2.0\n---\n# Model\nlicense: mit\n"},
            "apache-2.0",
        ),
        ({"README.md": "---\nlicense: other\nlicense_name: llama3.2\n---\n"}, "llama3.2"),
        (
            {"README.md": "# no header\nlicense: mit\n", "LICENSE": "\n  MIT License\n"},
            "MIT License",
        ),
    ],
)
def test_the_licence_is_what_the_files_say(damaged, files, licence):
    folder = damaged()
    for name, content in files.items():
        (folder / name).write_text(content)
    assert open_checkpoint(folder).licence == licence
