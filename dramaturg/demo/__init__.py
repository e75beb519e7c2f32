"""``python -m dramaturg.demo``: a real job on real files, then the same job killed half way and resumed.

`textstats` is the job, written as a user would; copy from it. The rest of the package runs it, kills it, and compares
its history with what an outside ledger saw.
"""
