"""Replaces PyInstaller's hook for gevent, which collects tests, other event loops and resolvers too."""

from PyInstaller.utils.hooks import collect_submodules

UNUSED = (
    "gevent.tests", "gevent.testing", "gevent.libuv", "gevent.libev._corecffi", "gevent.libev.corecffi",
    "gevent.resolver.ares", "gevent.resolver.cares", "gevent.resolver.dnspython", "gevent.resolver_ares",
    "gevent.pywsgi", "gevent.backdoor", "gevent.win32util", "gevent._ffi",
)  # fmt: skip

hiddenimports = collect_submodules("gevent", filter=lambda name: not name.startswith(UNUSED))
hiddenimports += ["greenlet", "greenlet._greenlet", "zope.interface", "zope.event"]
excludedimports = list(UNUSED)
