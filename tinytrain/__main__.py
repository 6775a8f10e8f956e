# SPDX-License-Identifier: Apache-2.0
"""python -m tinytrain"""

from tinytrain.cli import main

main()
