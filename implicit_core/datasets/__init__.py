"""Loaders of public data sets; each returns labels and an items × users matrix."""
