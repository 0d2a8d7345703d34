"""The languages that clients speak, and ours: a request's body into what a job asks, a job's events into an answer. Pure, without HTTP.

Shared by the public API, which adds keys, money and queues, and by the embedded runtime's front, which has none of them. A dialect has a
`read(body) -> Asked` and a `writer(asked, head) -> Writer`; `cluster/dialects/asked.py` and `answer.py` say what these are.
"""
