"""Who serves what: the gate, expert selection under budgets, and certificates for it."""
