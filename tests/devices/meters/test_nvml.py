"""NVIDIA's cards. No driver runs here: a library with the same functions stands in for it."""

import pytest

from updraft.devices.meters.nvml import Nvml
from updraft.errors import ProbeError


class Library:
    """The functions of `nvidia-ml-py` that are used; each value may be an error's text."""

    class NVMLError(Exception):
        pass

    def __init__(self, energy=0, power=0, start=None):
        self.energy, self.power, self.start = energy, power, start
        self.open = False

    def _say(self, value):
        if isinstance(value, str):
            raise self.NVMLError(value)
        return value

    def nvmlInit(self):  # noqa: N802
        self._say(self.start)
        self.open = True

    def nvmlShutdown(self):  # noqa: N802
        self.open = False

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetName(self, _):  # noqa: N802
        return "NVIDIA H200"

    def nvmlDeviceGetTotalEnergyConsumption(self, _):  # noqa: N802
        return self._say(self.energy)

    def nvmlDeviceGetPowerUsage(self, _):  # noqa: N802
        return self._say(self.power)


def test_the_energy_counter_is_in_millijoules():
    library = Library(energy=1_234_567, power=90_000)
    sensor = Nvml(library)
    assert sensor.counts
    assert sensor.rail == "energy counter of GPU 0, NVIDIA H200, without the host"
    assert sensor.read() == pytest.approx(1234.567)
    sensor.close()
    assert not library.open


def test_a_card_without_counter_is_read_by_its_power():
    sensor = Nvml(Library(energy="Not Supported", power=90_500))
    assert not sensor.counts
    assert sensor.rail.startswith("power of GPU 0")
    assert sensor.read() == pytest.approx(90.5)


def test_a_jetson_has_the_library_and_no_such_sensor():
    library = Library(energy="Not Supported", power="Not Supported")
    with pytest.raises(ProbeError, match="tells neither energy nor power; a Jetson has ina3221"):
        Nvml(library)
    assert not library.open


def test_without_driver_it_says_so():
    with pytest.raises(ProbeError, match=r"Driver Not Loaded: is the NVIDIA driver loaded\?"):
        Nvml(Library(start="Driver Not Loaded"))


def test_a_card_that_falls_off_the_bus_is_an_error_at_that_reading():
    library = Library(energy=5)
    sensor = Nvml(library)
    library.energy = "GPU is lost"
    with pytest.raises(ProbeError, match="NVML: GPU is lost"):
        sensor.read()
