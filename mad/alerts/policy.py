"""From p-value to alert."""


def is_alert(p_value: float, *, false_alarm_rate: float) -> bool:
    """Raise every p-value at or below the false-alarm rate."""
    return p_value <= false_alarm_rate
