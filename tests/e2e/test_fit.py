"""What will not fit into memory is refused before it is loaded, with what would fit."""

import re

import pytest


@pytest.fixture
def budget(tmp_path):
    """Return a function that writes a budget with a memory line and an agent's configuration."""

    def write(memory):
        lines = f'[device.desk]\nmodel = "x86"\nmemory = "{memory}"\n'
        (tmp_path / "budgets.toml").write_text(lines)
        config = tmp_path / "edge.toml"
        config.write_text(
            f'[budget]\nfile = "{tmp_path}/budgets.toml"\ndevice = "desk"\n'
            f'ledger = "{tmp_path}/ledger.sqlite"\n'
        )
        return config

    return write


def test_an_agent_keeps_its_budget_of_memory(refusal, budget):
    said = refusal("edge", "serve", "--listen", "127.0.0.1:0", "--config", budget("60 MB"))
    assert re.search(
        r"bundle 'code' does not fit into memory: it needs \d+ MB \(weights \d+ MB, 4 texts of "
        r"512 positions \d+ MB, runtime \d+ MB, ended texts 67 MB\) and 0 MB are left "
        r"of a budget of 60 MB; beside one text there is room for weights of 0 "
        r"MB: choose a smaller bundle, or free memory",
        said,
    )


def test_a_single_prompt_keeps_the_budget_too(refusal, budget):
    said = refusal("generate", "--prompt", "import ", "--config", budget("60 MB"))
    assert "bundle 'code' does not fit into memory" in said
    assert "1 text of 512 positions" in said


def test_an_agent_says_what_ended_texts_may_take(refusal, budget):
    config = budget("1 GB")
    config.write_text(config.read_text() + "[decoding]\nprefix_cache_mib = 100_000\n")
    said = refusal("edge", "serve", "--listen", "127.0.0.1:0", "--config", config)
    assert re.search(r"less for texts that ended: set decoding\.prefix_cache_mib = \d+$", said)


def test_an_agent_says_how_many_texts_fit(refusal, budget, tmp_path):
    config = budget("1 GB")
    config.write_text(config.read_text() + "[api]\nmax_generations = 1024\n")
    said = refusal("edge", "serve", "--listen", "127.0.0.1:0", "--config", config)
    assert re.search(r"there is room for \d+ texts of this length: set api\.max_generations", said)


def test_a_coordinator_says_how_much_contexts_may_take_and_then_starts(
    refusal, start_daemon, tmp_path
):
    config = tmp_path / "cloud.toml"
    config.write_text("[sessions]\nmax_sessions = 100_000\nmemory_mib = 100_000_000\n")
    said = refusal("cloud", "serve", "--listen", "127.0.0.1:0", "--config", config)
    assert "bundle 'code' does not fit into memory" in said
    advised = re.search(r"set sessions\.memory_mib = (\d+), or free memory", said)
    some = int(advised[1]) // 2  # others may take memory meanwhile
    config.write_text(f"[sessions]\nmax_sessions = 100_000\nmemory_mib = {some}\n")
    start_daemon("cloud", "serve", "--listen", "127.0.0.1:0", "--config", str(config))
