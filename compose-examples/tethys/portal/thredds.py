#!/usr/bin/env python3
"""A stand-in for THREDDS: serves its content directory, which lies in the container's own layer."""

import functools
import signal
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

CONTENT = "/usr/local/tomcat/content/thredds"

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
handler = functools.partial(SimpleHTTPRequestHandler, directory=CONTENT)
ThreadingHTTPServer(("", 8080), handler).serve_forever()
