"""`updraft bench optimizer`: expert selection beside MILP solvers, on seeded instances."""
