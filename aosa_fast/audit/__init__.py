"""Audits of whole data sets: what a model looks at when it should not."""
