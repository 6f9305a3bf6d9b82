"""prompt_toolkit asks its own metadata for its version when it is imported."""

from PyInstaller.utils.hooks import copy_metadata

datas = copy_metadata("prompt_toolkit")
