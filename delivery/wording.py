"""What the public pages about email say, in English and Spanish, in words of the sixth grade.

Plain data rather than gettext: two languages, one page, and no compiler to install. `{organization}` is
the name of whoever wrote.
"""

#: What is said whatever the message was for.
COMMON: dict[str, dict[str, str]] = {
    "en": {
        "title": "Email choices",
        "done": "Done",
        "ask_more": "Press the button once. It works right away, and you don’t need to sign in.",
        "late": "An email that was already on its way may still arrive.",
        "mistake": "Pressed it by mistake?",
        "ask_us": "If you want it again, write to us at the address below.",
        "permission": "Your signed permission",
        "permission_more": "Stopping email doesn’t take back a permission that you signed. "
        "To take that back too, write to us at the address below.",
        "again_more": "You can stop it at any time. Use the link at the end of each email.",
        "address": "Write to us",
        "other_language": "Español",
        "one_click": "Done. You won’t get more of these emails.",
    },
    "es": {
        "title": "Opciones de correo",
        "done": "Listo",
        "ask_more": "Oprima el botón una vez. El cambio es inmediato y no tiene que iniciar sesión.",
        "late": "Un correo que ya iba en camino todavía puede llegar.",
        "mistake": "¿Lo oprimió por error?",
        "ask_us": "Si los quiere otra vez, escríbanos a la dirección de abajo.",
        "permission": "El permiso que firmó",
        "permission_more": "Dejar de recibir correos no anula el permiso que usted firmó. "
        "Si también quiere anularlo, escríbanos a la dirección de abajo.",
        "again_more": "Puede dejar de recibirlos cuando quiera. Use el enlace al final de cada correo.",
        "address": "Escríbanos",
        "other_language": "English",
        "one_click": "Listo. Ya no recibirá estos correos.",
    },
}

#: What is said about one kind of stop, by the scope that it records (consent.OptOut.Scope).
BY_SCOPE: dict[str, dict[str, dict[str, str]]] = {
    "commercial": {
        "en": {
            "ask": "Stop promotional email from {organization}?",
            "button": "Stop promotional email",
            "stopped": "You won’t get more promotional email from {organization}.",
            "still": "Messages about your own care and bills may still come.",
            "undo": "Get promotional email again",
            "again": "You’ll get promotional email from {organization} again.",
        },
        "es": {
            "ask": "¿Dejar de recibir correos promocionales de {organization}?",
            "button": "Dejar de recibir promociones",
            "stopped": "Ya no recibirá correos promocionales de {organization}.",
            "still": "Todavía puede recibir mensajes sobre su propia atención médica y sus facturas.",
            "undo": "Volver a recibir promociones",
            "again": "Volverá a recibir correos promocionales de {organization}.",
        },
    },
    "care": {
        "en": {
            "ask": "Stop email about health and care from {organization}?",
            "button": "Stop these emails",
            "stopped": "You won’t get more email about health and care from {organization}.",
            "still": "Other kinds of email may still come, such as notices about visits and bills.",
            "undo": "Get these emails again",
            "again": "You’ll get email about health and care from {organization} again.",
        },
        "es": {
            "ask": "¿Dejar de recibir correos de {organization} sobre salud y atención médica?",
            "button": "Dejar de recibir estos correos",
            "stopped": "Ya no recibirá correos de {organization} sobre salud y atención médica.",
            "still": "Todavía puede recibir otros correos, como avisos de citas y facturas.",
            "undo": "Volver a recibir estos correos",
            "again": "Volverá a recibir correos de {organization} sobre salud y atención médica.",
        },
    },
    "fundraising": {
        "en": {
            "ask": "Stop email that asks for donations to {organization}?",
            "button": "Stop donation email",
            "stopped": "You won’t get more email that asks for donations to {organization}.",
            "still": "Messages about your own care and bills may still come.",
            "undo": "Get donation email again",
            "again": "You’ll get email that asks for donations to {organization} again.",
        },
        "es": {
            "ask": "¿Dejar de recibir correos que piden donaciones para {organization}?",
            "button": "Dejar de recibir estos correos",
            "stopped": "Ya no recibirá correos que piden donaciones para {organization}.",
            "still": "Todavía puede recibir mensajes sobre su propia atención médica y sus facturas.",
            "undo": "Volver a recibir estos correos",
            "again": "Volverá a recibir correos que piden donaciones para {organization}.",
        },
    },
}

LANGUAGES = tuple(COMMON)


def known(language: str | None) -> str:
    """Return "en" or "es" for a language code such as es-MX, or "" for a language that we don't speak."""
    code = (language or "").lower().replace("_", "-").partition("-")[0]
    return code if code in LANGUAGES else ""


def words(language: str, scope: str, organization: str) -> dict[str, str]:
    """Return every sentence of the page by its key, the organization's name filled in.

    Raises KeyError for a language or a scope that has no words.
    """
    sentences = COMMON[language] | BY_SCOPE[scope][language]
    return {key: text.replace("{organization}", organization) for key, text in sentences.items()}
