"""The functional core: `(state of a run, message, now) → events`, and the fold of those events.

Rule 1: nothing here does I/O, reads a clock, rolls dice, logs, starts threads or looks at globals; time, chance and
options are arguments. Rule 2: live turn and replay use the same `evolve`; there is no second path.
"""
