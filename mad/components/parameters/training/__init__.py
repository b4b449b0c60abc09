"""Training of stochastic parameter decompositions (SPD): a model and a plan in, subcomponents out.

``SpdTraining.begin(model, plan, example)`` checks the plan against the model and warms up;
``step(batch)`` learns from one batch of the model's input and returns figures; ``state`` and
``restore`` are what a checkpoint keeps: nothing else is drawn or counted, so that a run goes on
exactly where it stopped, given the batches that follow. ``finish()`` returns one ``Subcomponents``
for each layer, in the plan's order. The monitored model is never changed.
"""
