"""What can go wrong while serving.

ServingError
  + BundleError    the files on disk: export again or copy the bundle again, then reload
  + RequestError   this request: the caller must change it, a retry will not help
"""


class ServingError(Exception):
    """Base of every error that serving raises on purpose."""


class BundleError(ServingError):
    """A bundle is incomplete, damaged, unsafe, or made by an incompatible version."""


class RequestError(ServingError):
    """The request cannot be answered as it stands."""
