"""The ground floor: settings, files, processes and the record of them.

It knows nothing of workflows, of servers or of notebooks. Every room may come in here.
"""
