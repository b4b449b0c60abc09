"""Parameter decompositions: the matrices of a model as sums of rank-one subcomponents."""
