"""What the API asks of everybody: signed in, active, and with a second factor."""

import pytest
from django.contrib.auth.models import AnonymousUser
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from accounts.models import User
from accounts.permissions import SignedInAndVerified


def allowed(user, *, verified):
    request = APIRequestFactory().get("/")
    if user is not None:
        user.is_verified = lambda: verified
    request.user = user
    return SignedInAndVerified().has_permission(request, None)


@pytest.mark.parametrize(
    ("user", "verified", "answer"),
    [
        (None, True, False),
        (AnonymousUser(), True, False),
        (User(), False, False),
        (User(is_active=False), True, False),
        (User(), True, True),
    ],
    ids=["nobody", "anonymous", "no second factor", "inactive", "verified"],
)
def test_only_an_active_user_with_a_second_factor_passes(user, verified, answer):
    assert allowed(user, verified=verified) is answer


def test_every_view_of_the_api_asks_for_it_by_default():
    assert APIView.permission_classes == [SignedInAndVerified]
