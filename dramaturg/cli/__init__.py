"""The command line. Modules here import the rest of Dramaturg inside their functions, so that ``--help`` is quick."""
