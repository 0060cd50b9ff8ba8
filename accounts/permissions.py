"""What the API asks of a request before anything else."""

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:
    # Its module imports this one, by the settings.
    from rest_framework.views import APIView


class SignedInAndVerified(BasePermission):
    """Somebody active, signed in with a second factor (DRF's views pass LoginRequiredMiddleware by)."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Say whether the request may go on."""
        user = request.user
        return bool(user and user.is_authenticated and user.is_active and user.is_verified())
