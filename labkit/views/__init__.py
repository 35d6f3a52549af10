"""What participants look at: widgets and pictures.

They show values and ask nobody: whatever they need is handed in. Imports what is asked (``ask``)
and the floors below it; no thread and no lock.
"""
