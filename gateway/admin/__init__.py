"""The operator's listener: probes, metrics, the admin API and the live page. Knows no call on its way, only what it is told
by its sources; nothing of it is reachable from the front.
"""
