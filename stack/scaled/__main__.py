"""Write the configurations of the scaled stack: `python -m stack.scaled`."""

from stack.facts import ROOT
from stack.scaled import configs

for path in configs.write():
    print(f"written: {path.relative_to(ROOT)}")
