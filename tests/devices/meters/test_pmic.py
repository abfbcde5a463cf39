"""Raspberry Pi 5: what its tool says, as watts of the board."""

import pytest

from updraft.devices.meters.pmic import Pmic
from updraft.errors import ProbeError

_SAYS = """\
     3V7_WL_SW_A current(0)=0.10000000A
       3V3_SYS_A current(1)=0.20000000A
      VDD_CORE_A current(7)=1.50000000A
     3V7_WL_SW_V volt(8)=3.70000000V
       3V3_SYS_V volt(9)=3.30000000V
      VDD_CORE_V volt(15)=0.90000000V
         EXT5V_V volt(24)=5.15000000V
          BATT_V volt(25)=0.00000000V"""


def test_rails_with_volts_and_amperes_are_summed_and_scaled_to_the_board(board):
    board.tool('[ "$1" = pmic_read_adc ] || exit 3', f"cat <<END\n{_SAYS}\nEND")
    sensor = Pmic(board.root)
    assert sensor.rail == (
        "3 rails of the power controller, scaled to the board by 1.1451·W + 0.5879 W"
    )
    assert sensor.read() == pytest.approx(1.1451 * (0.37 + 0.66 + 1.35) + 0.5879)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["echo 'Can'\"'\"'t open device file: /dev/vcio' >&2", "exit 1"], "Can't open device"),
        (["echo 'error=1 error_msg=\"Command not registered\"'"], "Command not registered"),
        (["exit 0"], "nothing"),
        ([f"cat <<END\n{_SAYS}\nEND", "exit 1"], "3V7_WL_SW_A"),
    ],
)
def test_a_tool_that_fails_is_quoted_with_the_remedy(board, lines, said):
    board.tool(*lines)
    with pytest.raises(ProbeError, match=said) as refused:
        Pmic(board.root)
    assert "a user in the group `video`" in str(refused.value)


def test_a_tool_that_cannot_be_started_is_an_error(board):
    board.tool().write_text("#!/no/such/shell\n")
    with pytest.raises(ProbeError, match="vcgencmd pmic_read_adc: "):
        Pmic(board.root)


def test_without_the_tool_there_is_none(board):
    assert not Pmic.there(board.root)
    board.tool("exit 0")
    assert Pmic.there(board.root)
