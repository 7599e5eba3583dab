"""What can go wrong while serving.

ServingError
  + BundleError        the files on disk: export again or copy the bundle again, then reload
  + RequestError       this request: the caller must change it, a retry will not help
  + DeadlineExceeded   nobody waits for this answer any more: nothing was computed
  + StateError         a store of histories or a remote index is down or slow: retry later
"""


class ServingError(Exception):
    """Base of every error that serving raises on purpose."""


class BundleError(ServingError):
    """A bundle is incomplete, damaged, unsafe, or made by an incompatible version."""


class RequestError(ServingError):
    """The request cannot be answered as it stands."""


class StateError(ServingError):
    """Something beside the bundle that answers depend on is down, slow or broken."""


class DeadlineExceeded(ServingError):
    """The deadline had passed before the work began, for instance while waiting in a queue."""
