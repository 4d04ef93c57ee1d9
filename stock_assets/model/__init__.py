"""The models: which rows may teach them, how they learn, how they answer."""

import os

# The threads of libgomp spin while they wait, unless told otherwise before it is loaded. Beside other work
# that is a disaster: on two busy cores the same training took 118 seconds spinning and 6 seconds sleeping.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
