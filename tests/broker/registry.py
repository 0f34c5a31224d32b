"""The table of scenarios."""

SCENARIOS = {}


class Scenario:
    def __init__(self, function, own_broker, timeout_s, long_only, nodes):
        self.function, self.own_broker, self.timeout_s = function, own_broker, timeout_s
        self.long_only, self.nodes = long_only, nodes


def scenario(own_broker=False, timeout_s=240, long_only=False, nodes=1):
    """Marks def name(site). own_broker: it stops or kills the broker. timeout_s: of the short form. nodes: of its
    own broker, 1 or 3."""

    def mark(function):
        SCENARIOS[function.__name__] = Scenario(function, own_broker, timeout_s, long_only, nodes)
        return function

    return mark
