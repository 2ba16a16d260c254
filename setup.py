"""Adds the man pages to what is built; everything else is declared in pyproject.toml."""

import os
import sys
import time
from pathlib import Path

from setuptools import Distribution, setup

sys.path.insert(0, str(Path(__file__).parent))

from bmhctl.docs.man_pages import Edition, write  # not installed yet

install_data = Distribution().get_command_class("install_data")


class InstallManPages(install_data):
    """Makes the man pages from the manual and installs them where man and pipx look for them."""

    def run(self) -> None:
        """Write the pages into the folder of the build, and install that."""
        folder = Path(self.get_finalized_command("build").build_base) / "man"
        moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))  # distributions build the same twice
        date = time.strftime("%Y-%m-%d", time.gmtime(moment))
        pages = write(folder, Edition(self.distribution.get_version(), date))
        self.data_files = [("share/man/man1", [str(page) for page in pages])]
        super().run()


setup(cmdclass={"install_data": InstallManPages}, data_files=[("share/man/man1", [])])
