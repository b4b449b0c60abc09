"""The first judgement of a monitor, on zeros: what is slow at first, or broken, is found here."""

from mad.capture.hooks import Outputs
from mad.errors import ConfigError, MadError
from mad.monitor import Monitor
from mad.payloads import zeros


def warm_up(monitor: Monitor) -> Outputs:
    """Judge zeros, and look up what the sites give; return what the model made of them.

    For the thread that owns the model. Raises ConfigError for a model that cannot run on what its
    baseline says it takes.
    """
    inputs = zeros(monitor.baseline)
    try:
        outputs = monitor.judge(inputs).outputs
        _ = monitor.shapes
    except MadError:
        raise
    except Exception as error:
        shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        raise ConfigError(
            f"the model of {monitor.baseline.revision} fails on zeros of shape {shapes}: {error}; "
            "check model.factory and model.weights"
        ) from error
    return outputs
