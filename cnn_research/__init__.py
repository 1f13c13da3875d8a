"""Measure what a convolution buys: locality, weight sharing and filter size, against dense layers."""
