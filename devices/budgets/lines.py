"""What may be written for each line of a budget besides its limit."""

from __future__ import annotations

from collections.abc import Mapping

from updraft.devices.budgets.budget import LineName, OnExhausted

# What happens at the end of a line that does not say.
DEFAULTS: Mapping[LineName, OnExhausted] = {
    "energy_per_request": "shallower_exits",
    "energy_per_day": "refuse",
    "average_power": "queue",
    "first_token": "shallower_exits",
    "per_token": "shallower_exits",
    "uplink_per_day": "standalone",
    "cloud_tokens_per_hour": "standalone",
    "memory": "refuse",
}
# What would never help, and why.
USELESS: Mapping[tuple[LineName, OnExhausted], str] = {
    ("energy_per_request", "queue"): "waiting makes no request cheaper",
    ("first_token", "queue"): "waiting makes the first token later still",
    ("per_token", "queue"): "waiting makes no token faster",
    ("uplink_per_day", "shallower_exits"): "every position's state is sent all the same",
}
# What devices spend together can be added up; what each answer may take cannot.
SHARED: tuple[LineName, ...] = (
    "energy_per_day",
    "average_power",
    "uplink_per_day",
    "cloud_tokens_per_hour",
)
WINDOW_S = 60.0
SHORTEST_WINDOW_S = 1.0
LONGEST_WINDOW_S = 86_400.0
