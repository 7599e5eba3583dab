"""Ed25519 signatures over the hash of a bundle's manifest (the `signing` extra: cryptography).

openssl genpkey -algorithm ed25519 -out release.key     keeps the releaser
openssl pkey -in release.key -pubout -out release.pub   goes to every server
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from features.errors import InputError
from serving.errors import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise InputError(
            "signed releases need the package cryptography: pip install 'recsys-engine[signing]'"
        ) from error
    return serialization


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Checks that a release was signed by the holder of the private half."""

    key: "Ed25519PublicKey"

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a PEM file; raises InputError for anything but an Ed25519 public key."""
        serialization = _serialization()
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a PEM public key: {error}") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InputError(f"{path} holds a {type(key).__name__}, expected an Ed25519 public key")
        return cls(key)

    def check(self, sha256: str, signature: bytes) -> None:
        """Raise BundleError unless `signature` is of this manifest hash by this key's holder."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

        try:
            self.key.verify(signature, sha256.encode())
        except InvalidSignature:
            raise BundleError(
                f"the signature of the bundle {sha256[:12]} is not by the key this server trusts"
            ) from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half."""

    key: "Ed25519PrivateKey"

    @classmethod
    def read(cls, path: Path) -> Self:
        """From an unencrypted PEM file; raises InputError for anything but an Ed25519 key."""
        serialization = _serialization()
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} is not an unencrypted PEM private key: {error}") from error
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise InputError(f"{path} holds a {type(key).__name__}, expected an Ed25519 key")
        return cls(key)

    def sign(self, sha256: str) -> bytes:
        """64 bytes over a manifest hash."""
        return self.key.sign(sha256.encode())
