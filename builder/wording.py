"""The sentences that the compiler itself writes into a mail, by language."""

# wording -> the sentence before the unsubscribe link; "brief" has none
FOOTER: dict[str, dict[str, str]] = {
    "en": {
        "sent_by": "Sent by {sender}.",
        "standard": "Don’t want these emails?",
        "warm": "If these letters are not for you, that is fine. One click and they stop.",
        "brief": "",
        "unsubscribe": "Unsubscribe",
        "preferences": "Choose what you get",
    },
    "es": {
        "sent_by": "Enviado por {sender}.",
        "standard": "¿No desea recibir estos correos?",
        "warm": "Si estas cartas no son para usted, no hay problema. Un clic y dejan de llegar.",
        "brief": "",
        "unsubscribe": "Cancelar la suscripción",
        "preferences": "Elegir lo que recibe",
    },
}
RIGHT_TO_LEFT = frozenset({"ar", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})


def footer(language: str) -> dict[str, str]:
    """The footer's sentences in this language, else in English."""
    return FOOTER.get(language.split("-")[0].lower(), FOOTER["en"])


def direction(language: str) -> str:
    """`ltr` or `rtl`."""
    return "rtl" if language.split("-")[0].lower() in RIGHT_TO_LEFT else "ltr"
