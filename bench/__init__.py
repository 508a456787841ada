"""The benchmarks: real programs, real disk, each figure beside what bare SQLite reaches.

python -m bench                     all of them
python -m bench drain --tasks 20000 one of them, smaller
"""
