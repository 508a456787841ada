"""dtm beside its peers: the same work for everybody, on this machine, in one run; each result is checked.

python -m bench.peers                all of them; `make bench-peers` makes their environment first
python -m bench.peers rq huey        some of them
"""
