"""Real processes over servers of their own, killed, frozen and emptied at random under load: ``python -m chaos``."""
