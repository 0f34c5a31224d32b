"""The table of scenarios."""

SCENARIOS = {}


class Scenario:
    def __init__(self, function, own_broker, timeout_s, long_only):
        self.function, self.own_broker, self.timeout_s, self.long_only = function, own_broker, timeout_s, long_only


def scenario(own_broker=False, timeout_s=240, long_only=False):
    """Marks def name(site). own_broker: it stops or kills the broker. timeout_s: of the short form."""

    def mark(function):
        SCENARIOS[function.__name__] = Scenario(function, own_broker, timeout_s, long_only)
        return function

    return mark
