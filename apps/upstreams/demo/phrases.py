"""What the demo says in its own words."""

GREETING = "This is the built-in demo upstream: no language model is connected."
REMEDY = "To talk to a real model, add its server in the admin under Upstreams and make it the default."
REFUSAL = "The built-in demo upstream refuses this, as it was told to."
REASONING = "The built-in demo upstream does not think, but it was told to look as if it did."
