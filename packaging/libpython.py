"""Exits with 1 if this interpreter has no shared libpython, which PyInstaller must put into the binary."""

import sys

from PyInstaller.depend.bindepend import get_python_library_path

try:
    found = get_python_library_path()
except Exception:
    found = None
sys.exit(0 if found else 1)
