"""Uploads on their way into the server: Django would spool them in clear, this keeps them under a key in memory."""

import io
import os
import tempfile
from typing import IO, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from files.staging import max_bytes
from phi.keys import Unreadable


class EncryptedSpool(io.RawIOBase):
    """A temporary file without a name, encrypted piece by piece under a key that ends with this object.

    Written once from start to end with `append()`, then read from anywhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115
        #: Of each piece: where its plain bytes begin, where it begins in the file, how long it is there.
        self._places: list[tuple[int, int, int]] = []
        self._position = 0
        self._held = (-1, b"")

    def append(self, piece: bytes) -> None:
        """Write further plain bytes."""
        sealed = self._cipher.encrypt(self._nonce(len(self._places)), piece, None)
        self._places.append((self.size, self._file.seek(0, os.SEEK_END), len(sealed)))
        self._file.write(sealed)
        self.size += len(piece)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from one piece; raises Unreadable when the file was altered meanwhile."""
        if self._position >= self.size:
            return 0
        number = self._piece_at(self._position)
        plain = self._opened(number)
        part = plain[self._position - self._places[number][0] :][: len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        self._file.close()
        self._held = (-1, b"")
        super().close()

    def _piece_at(self, position: int) -> int:
        low, high = 0, len(self._places)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._places[middle][0] <= position else (low, middle)
        return low

    def _opened(self, number: int) -> bytes:
        if self._held[0] != number:
            _, place, length = self._places[number]
            self._file.seek(place)
            try:
                plain = self._cipher.decrypt(self._nonce(number), self._file.read(length), None)
            except InvalidTag:
                raise Unreadable("an upload was altered on disk") from None
            self._held = (number, plain)
        return self._held[1]

    @staticmethod
    def _nonce(number: int) -> bytes:
        # One key a file and one number a piece: none is used twice.
        return number.to_bytes(12, "big")


class EncryptedUploadHandler(FileUploadHandler):
    """Receives each file of a request into an encrypted spool; raises RequestDataTooBig (400) for one too large."""

    chunk_size = 256 * 1024

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict[str, Any],  # noqa: N803
        content_length: int,
        boundary: bytes,
        encoding: str | None = None,
    ) -> None:
        if content_length > max_bytes() + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            self._refuse()

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.spool = EncryptedSpool()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if self.spool.size + len(raw_data) > max_bytes():
            self.spool.close()
            self._refuse()
        self.spool.append(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile:
        return UploadedFile(
            file=io.BufferedReader(self.spool, self.chunk_size),
            name=self.file_name,
            content_type=self.content_type,
            size=file_size,
            charset=self.charset,
            content_type_extra=self.content_type_extra,
        )

    def upload_interrupted(self) -> None:
        self.spool.close()

    def _refuse(self) -> None:
        raise RequestDataTooBig(f"An upload is larger than {max_bytes()} bytes.")
