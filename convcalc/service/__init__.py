"""The same answers over HTTP, to strangers: nothing they send is trusted, kept or echoed.

A request passes `observe` (request id, headers, log, metrics), `limits` and `methods`, is validated
by `questions`, and is computed in a worker process (`pool`, `worker`, `jobs`) that can be killed.
"""
