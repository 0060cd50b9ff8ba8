"""All settings, read top to bottom; `manage.py check --deploy` refuses bad values."""

import logging
import os
import sys
from pathlib import Path

from cryptography.fernet import Fernet
from kombu import Queue

from hipaamail import env, keyring

BASE_DIR = Path(__file__).resolve().parent.parent

#: "development" (the default: embedded servers, keys made under STATE_DIR) or "production".
ENVIRONMENT = env.text("HIPAAMAIL_ENV", "development")
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.flag("HIPAAMAIL_DEBUG")

#: Everything that the running system writes outside the database: keys in development, journals, audit heads.
STATE_DIR = Path(env.text("HIPAAMAIL_STATE_DIR", str(BASE_DIR / "var"))).resolve()

# --- Servers -----------------------------------------------------------------------------------

if not PRODUCTION and not (env.text("DATABASE_URL") and env.text("BROKER_URL")):
    from hipaamail import embedded

    embedded.hold(STATE_DIR)

#: True when PostgreSQL or Valkey are the embedded ones; refused in production (phi.E005).
EMBEDDED_SERVERS = env.flag("HIPAAMAIL_EMBEDDED")

#: Migrations change tables, so they run as the tables' owner; everything else as the application's role.
_AS_OWNER = (
    "migrate" in sys.argv[1:2]
    or "pytest" in Path(sys.argv[0]).name
    or "PYTEST_VERSION" in os.environ
)
DATABASE_URL = (_AS_OWNER and env.secret("DATABASE_OWNER_URL")) or env.secret("DATABASE_URL")
DATABASES = {"default": env.database(DATABASE_URL)}
#: The role that gets rights on the tables after each migration (audit/grants.py); empty: the owner itself.
HIPAAMAIL_DB_APP_ROLE = env.text("HIPAAMAIL_DB_APP_ROLE", "hipaamail_app")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

BROKER_URL = env.secret("BROKER_URL")

# --- Keys --------------------------------------------------------------------------------------
# In production each comes from the environment or a file; in development they are made once, 0600.

_keys = keyring.Keyring(STATE_DIR / "keys", make=not PRODUCTION)
SECRET_KEY = _keys.text("HIPAAMAIL_SECRET_KEY")
#: Master keys that wrap the data keys, newest first: base64 of 32 bytes each, separated by commas.
MASTER_KEYS = _keys.bytes_list("HIPAAMAIL_MASTER_KEY")
#: Ed25519 key (32 raw bytes) that signs the audit log's blocks.
AUDIT_SIGNING_KEY = _keys.one_bytes("HIPAAMAIL_AUDIT_KEY")
#: Public keys (hexadecimal, as verify_audit prints them) of blocks that were signed before the key was changed.
AUDIT_TRUSTED_KEYS = [bytes.fromhex(word) for word in env.words("HIPAAMAIL_AUDIT_TRUSTED_KEYS")]
#: Key of envelope-sender and unsubscribe tokens.
TOKEN_KEY = _keys.one_bytes("HIPAAMAIL_TOKEN_KEY")
#: Earlier ones, whose tokens are still good.
TOKEN_KEY_FALLBACKS = _keys.bytes_list("HIPAAMAIL_TOKEN_KEY")[1:]
#: The package's own cipher is never used (phi/fields.py replaces it), but it demands a key at import:
#: a random one per process, so that nothing it could write by accident could ever be read.
FIELD_ENCRYPTION_KEY = Fernet.generate_key().decode()

#: Where the audit log's heads are kept, outside the database.
AUDIT_HEADS = Path(env.text("HIPAAMAIL_AUDIT_HEADS", str(STATE_DIR / "audit-heads")))
#: The administrator's word that database volumes and backups are encrypted (phi.E006).
ENCRYPTED_VOLUMES = env.flag("HIPAAMAIL_ENCRYPTED_VOLUMES")

# --- Applications ------------------------------------------------------------------------------

INSTALLED_APPS = [
    "phi",
    "audit",
    "accounts",
    "files",
    "contacts",
    "consent",
    "builder",
    "campaigns",
    "delivery",
    "reports",
    "hipaamail.apps.WiringConfig",
    "demo",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_otp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "hipaamail.middleware.LoginRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "hipaamail.urls"
WSGI_APPLICATION = "hipaamail.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ],
        },
    }
]

# --- Web ---------------------------------------------------------------------------------------

#: Largest upload, rejected-rows file or export.
STAGED_FILE_MAX_BYTES = env.number("HIPAAMAIL_FILE_MAX_BYTES", 1024**3)
ALLOWED_HOSTS = env.words("HIPAAMAIL_HOSTS", "" if PRODUCTION else "localhost,127.0.0.1")
#: The address under which recipients reach unsubscribe pages.
PUBLIC_URL = env.text("HIPAAMAIL_PUBLIC_URL", "" if PRODUCTION else "http://localhost:8000")

SECURE_SSL_REDIRECT = PRODUCTION
#: Behind a proxy that ends TLS and sets this header itself: RFC 8058 allows no redirect on a POST.
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.flag("HIPAAMAIL_BEHIND_TLS_PROXY") else None
)
#: A probe speaks plain HTTP to the process.
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = 63_072_000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = PRODUCTION
SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_REFERRER_POLICY = "no-referrer"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
#: 164.312(a)(2)(iii): a session left alone ends.
SESSION_COOKIE_AGE = 15 * 60
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
FILE_UPLOAD_HANDLERS = ["files.upload.EncryptedUploadHandler"]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env.text("HIPAAMAIL_STATIC_ROOT", str(STATE_DIR / "staticfiles")))

WHITENOISE_USE_FINDERS = not PRODUCTION
_STATIC_BACKEND = (
    "whitenoise.storage.CompressedManifestStaticFilesStorage"
    if PRODUCTION
    else "django.contrib.staticfiles.storage.StaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": _STATIC_BACKEND},
}

# --- People ------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.roles.RoleBackend"]
LOGIN_URL = "/sign-in/"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
#: NIST SP 800-63B-4: fifteen characters and a blocklist, no composition rules.
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 15},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]

REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.SignedInAndVerified"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}

# --- Language and time -------------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("es", "Español")]
USE_I18N = USE_TZ = True
TIME_ZONE = "UTC"

# --- Celery ------------------------------------------------------------------------------------

CELERY_BROKER_URL = BROKER_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
#: The dedicated addresses that this host owns and binds to; each is a queue.
SENDING_IPS = env.words("HIPAAMAIL_SENDING_IPS", "" if PRODUCTION else "127.0.0.11,127.0.0.12")
CELERY_TASK_DEFAULT_QUEUE = "default"
#: What a worker without -Q consumes: everything general, and the queues of this host's own addresses.
CELERY_TASK_QUEUES = [Queue("default"), *(Queue(f"ip-{address}") for address in SENDING_IPS)]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
#: Without it Celery closes the database connection before and after each task (84 instead of 432 tasks/s).
CELERY_DB_REUSE_MAX = 1000
CELERY_BEAT_SCHEDULE_FILENAME = str(STATE_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "launch what is due": {
        "task": "delivery.tasks.launch_due",
        "schedule": 2.0,
        "options": {"expires": 2},
    },
    "wake the sending addresses": {
        "task": "delivery.tasks.wake",
        "schedule": 2.0,
        "options": {"expires": 2},
    },
    "seal the audit log": {"task": "audit.tasks.seal", "schedule": 5.0, "options": {"expires": 5}},
    "expire staged files": {
        "task": "files.tasks.expire",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "empty old merge values": {
        "task": "delivery.tasks.empty_values",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
}

# --- Delivery ----------------------------------------------------------------------------------

#: Development: send mail for matching recipient domains to a host and port instead of their MX, e.g. `*=127.0.0.1:2526`.
HIPAAMAIL_ROUTES = env.text("HIPAAMAIL_ROUTES")
#: Routes in production need this word as well (delivery.E001).
HIPAAMAIL_ALLOW_ROUTES = env.flag("HIPAAMAIL_ALLOW_ROUTES")
#: Journals of what was on the wire, one a sending process (delivery/journal.py).
JOURNAL_DIR = Path(env.text("HIPAAMAIL_JOURNAL_DIR", str(STATE_DIR / "journals")))
#: Seconds before the first retry of a deferred message; the later ones (delivery/replies.py) scale with it.
RETRY_FIRST_SECONDS = env.number("HIPAAMAIL_RETRY_FIRST_SECONDS", 300)
#: Seconds for each phase of an SMTP session; 0: the generous ones of RFC 5321, 4.5.3.2.
SMTP_SECONDS = env.number("HIPAAMAIL_SMTP_SECONDS", 0)
#: Days after which what was filled into a message is emptied.
VALUES_KEPT_DAYS = env.number("HIPAAMAIL_VALUES_KEPT_DAYS", 90)
#: No staff mail is sent yet, and nothing leaves by another door than delivery/smtp.py.
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

# --- Logs --------------------------------------------------------------------------------------

DEFAULT_EXCEPTION_REPORTER = "phi.redact.PlacesOnly"
DEFAULT_EXCEPTION_REPORTER_FILTER = "phi.redact.NothingShown"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"redacted": {"()": "phi.redact.Formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "redacted"}},
    "root": {"handlers": ["stderr"], "level": env.text("HIPAAMAIL_LOG_LEVEL", "INFO")},
    "loggers": {
        # Django's own handlers are not redacted, so its loggers speak through ours.
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
        # SQL statements carry values.
        "django.db.backends": {"level": "WARNING"},
        "django.security": {"level": "WARNING"},
        "fontTools": {"level": "WARNING"},
        "weasyprint": {"level": "WARNING"},
    },
}
LOGGING_CONFIG = "logging.config.dictConfig"
# A record that cannot be formatted is dropped; else Python prints its arguments, unredacted.
logging.raiseExceptions = not PRODUCTION
