"""The ground floor: what every room shares and nobody owns.

Wire messages, event schemas, payload codec, definitions and registry, options, errors, durations, ids and
configuration. It imports no other room.
"""
