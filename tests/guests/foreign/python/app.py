"""A process of the world k8w:pod/job, made a component by componentize-py."""

import os
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        with open("/config/name") as file:
            name = file.read().strip()
        print(f"{os.environ['GREETING']} {name} from Python {sys.version_info.major}")
