"""Attribution-based parameter decomposition (APD, Braun et al. 2025, arXiv:2501.14926).

A component is a full matrix in every decomposed layer, ``a @ b`` with an inner size of its own:
one mechanism may span layers and have any rank. ``ApdTraining.begin(model, plan)`` and its
``step(batch)`` train; ``state`` and ``restore`` are what a checkpoint keeps; ``finish()`` returns
the components, and ``readout`` says which of them an input uses.
"""
