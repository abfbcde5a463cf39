"""ONNX Runtime sessions: providers, threads, and the one setting that keeps results exact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from updraft.config import Section
from updraft.devices.cores import usable_cores
from updraft.errors import BundleError, RuntimeMissing
from updraft.models.onnx_weights import read_weights

if TYPE_CHECKING:
    import onnxruntime

ProviderName = Literal["cpu", "cuda", "tensorrt"]

_PROVIDERS: dict[ProviderName, list[str]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}

# Below this, a second thread saves little, and nothing where others use the cores (ADR 0035).
_ONE_THREAD_BYTES = 64 << 20


class RuntimeOptions(Section):
    """Where and how graphs are computed.

    Attributes:
        threads: threads per forward pass; 0: as many as pay, one for a small graph and one per
            core for a large one.
    """

    provider: ProviderName = "cpu"
    threads: int = Field(default=0, ge=0, le=1024)

    def threads_for(self, weight_bytes: int) -> int:
        """Return how many threads compute a graph that reads so many bytes of weights."""
        return self.threads or (1 if weight_bytes < _ONE_THREAD_BYTES else usable_cores())


def load_session(
    path: Path, options: RuntimeOptions, graph: bytes | None = None
) -> onnxruntime.InferenceSession:
    """Load a graph on the asked provider.

    Args:
        graph: what to load where it is not the file itself but was made of it.

    Raises:
        RuntimeMissing: ONNX Runtime or the provider is not there.
        BundleError: the runtime refuses the graph.
    """
    ort = import_onnxruntime()
    wanted = _PROVIDERS[options.provider]
    if wanted[0] not in ort.get_available_providers():
        raise RuntimeMissing(_missing_provider(options.provider, ort))
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = options.threads_for(_weight_bytes(path))
    settings.inter_op_num_threads = 1
    # An arena per partition would keep what the longest prompt took, and is no faster (ADR 0035).
    settings.enable_cpu_mem_arena = False
    settings.enable_mem_pattern = False
    # Threads of a partition that still looked for work after it would take the cores from the next.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    # Left on, int8 weights meet int8 activations with one scale per call: the same token then
    # gets other logits alone than in a group, and edge and cloud no longer agree (ADR 0003).
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    if graph is not None:  # what was made of a file still names the weights beside that file
        settings.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.parent)
        )
    try:
        session = ort.InferenceSession(graph or str(path), settings, providers=wanted)
    except Exception as error:  # the runtime's own exceptions share no base class but this
        raise BundleError(f"{path}: ONNX Runtime {ort.__version__} refuses it: {error}") from error
    if session.get_providers()[0] != wanted[0]:
        raise RuntimeMissing(
            f"provider {options.provider!r} is built into ONNX Runtime {ort.__version__} but did "
            "not start: its libraries or the device are missing; run `updraft doctor`"
        )
    return session


def threads_of(session: onnxruntime.InferenceSession) -> int:
    """Return how many threads compute a loaded graph."""
    return int(session.get_session_options().intra_op_num_threads)


def as_value(array: NDArray[Any]) -> onnxruntime.OrtValue:
    """Return a contiguous array as the runtime takes it: the same memory, kept alive by it."""
    return import_onnxruntime().OrtValue.ortvalue_from_numpy(array)


def import_onnxruntime() -> onnxruntime:
    """Import ONNX Runtime, or say how to install it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing(
            "ONNX Runtime is not installed: pip install 'updraft[cpu]', or 'updraft[gpu]' on a "
            "machine with CUDA (on a Jetson see docs/guides/install.md)"
        ) from error
    return onnxruntime


def _weight_bytes(path: Path) -> int:
    try:
        return read_weights(path).read_bytes
    except ValueError:
        return 0  # the runtime says better than we what is wrong with it


def _missing_provider(provider: ProviderName, ort: onnxruntime) -> str:
    offered = ", ".join(
        name for name, wanted in _PROVIDERS.items() if wanted[0] in ort.get_available_providers()
    )
    return (
        f"provider {provider!r} was asked for, but ONNX Runtime {ort.__version__} on this machine "
        f"offers only: {offered}; install 'updraft[gpu]' in place of 'updraft[cpu]', or choose "
        "another provider"
    )
