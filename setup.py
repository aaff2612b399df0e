"""What pyproject.toml has no words for: the command ``unionfs`` is a program in C.

It asks the resident spawner, and runs ``unionfs-python`` for all else. Where there is no compiler,
``unionfs`` is the same as that.
"""

from __future__ import annotations

import os
import sys
import tempfile

from setuptools import setup
from setuptools.errors import BaseError, CCompilerError

from distutils.ccompiler import new_compiler  # isort: skip - setuptools brings it
from distutils.command.build_scripts import build_scripts  # isort: skip
from distutils.sysconfig import customize_compiler  # isort: skip

_SOURCE = "unionfs/daemon/_client.c"
_WITHOUT = """\
#!python
import sys

from unionfs.cli.main import entry

sys.exit(entry())
"""


class BuildClient(build_scripts):
    """Makes the one script there is."""

    def run(self) -> None:
        """Compile the client into the directory of scripts, or write the Python program there."""
        self.mkpath(self.build_dir)
        try:
            self._compile()
        except (BaseError, CCompilerError, OSError) as error:
            print(f"unionfs: without a client in C: {error}", file=sys.stderr)
            program = os.path.join(self.build_dir, "unionfs")
            with open(program, "w", encoding="ascii") as file:
                file.write(_WITHOUT)
            os.chmod(program, 0o755)

    def _compile(self) -> None:
        compiler = new_compiler()
        customize_compiler(compiler)
        with tempfile.TemporaryDirectory() as scratch:
            objects = compiler.compile(
                [_SOURCE],
                output_dir=scratch,
                macros=[("VERSION", f'"{self.distribution.get_version()}"')],
                extra_postargs=["-O2", "-Wall", "-Wextra"],
            )
            compiler.link_executable(objects, "unionfs", output_dir=self.build_dir)


setup(scripts=[_SOURCE], cmdclass={"build_scripts": BuildClient})
