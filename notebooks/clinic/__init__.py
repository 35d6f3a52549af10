"""The clinic of notebook 09: workflows that hang, each in its own way, and what makes them well."""
