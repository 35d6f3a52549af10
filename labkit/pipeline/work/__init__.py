"""The work behind the activities, one module a subject.

It knows nothing of Temporal's workflows.
"""
