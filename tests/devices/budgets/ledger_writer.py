"""Records requests one after the other until it is killed; says each before and after.

Arguments: path of the ledger, number of the first request, seed.
"""

import random
import sys
import time
from pathlib import Path

from updraft.devices.budgets.entry import Entry
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.usage import Usage

path, number, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger(path, time.time)
rng = random.Random(seed)
while True:
    now = ledger.now()
    entry = Entry(f"r{number}", now, now, Usage(1.0, 2.0, 3, 4, 5), 6, None, "full", "modelled")
    print("begin", number, flush=True)
    ledger.record(entry)
    print("end", number, flush=True)
    if rng.random() < 0.3:
        ledger.record(entry)  # told twice
    number += 1
