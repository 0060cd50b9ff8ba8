"""Which conditions are sensitive, as data: by ICD-10-CM code or by plain words; when in doubt, yes.

The gate must know before it can know whether a law applies (42 CFR 2, 45 CFR 164.508(a)(2), state law), so this
errs on the strict side: what merely suggests a category counts as it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

#: A code alone, or at the head of a text ("F11.20 Opioid dependence"): a letter, a digit, up to five more.
_CODE = re.compile(r"([A-Z]\d[0-9A-Z])(?:\.?([0-9A-Z]{1,4}))?(?=$|[\s:,–-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of sensitive information.

    `codes`: how its ICD-10-CM codes begin, without the dot. `stems`: how its words begin. `words`: whole words.
    """

    label: str
    codes: tuple[str, ...]
    stems: tuple[str, ...]
    words: tuple[str, ...] = ()


CATEGORIES: dict[str, Category] = {
    # 42 CFR 2.11. F10-F19, poisoning, counselling, and substance use in pregnancy.
    "substance_use": Category(
        "substance use",
        ("F1", "O9931", "O9932", "R78", "T40", "T51", "Z7141", "Z7151", "Z813", "Z814"),
        (
            *(
                "substance",
                "addict",
                "alcohol",
                "opioid",
                "opiate",
                "heroin",
                "cocaine",
                "fentanyl",
            ),
            *("methamphetamine", "cannabis", "marijuana", "drug abuse", "drug use", "drug depend"),
            *(
                "drug misuse",
                "drug rehab",
                "narcotic",
                "detox",
                "sobriety",
                "overdose",
                "withdrawal",
            ),
            *("methadone", "buprenorphine", "suboxone", "naltrexone", "vivitrol"),
            *("nicotine depend", "tobacco use disorder"),
        ),
        ("sud", "oud", "aud", "mat"),
    ),
    # 45 CFR 164.501 and 164.508(a)(2): never without an authorization of their own.
    "psychotherapy": Category(
        "psychotherapy notes",
        (),
        ("psychotherapy", "therapy note", "counseling note", "session note"),
    ),
    "mental_health": Category(
        "mental health",
        (
            *("F0", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9"),
            *("R4585", "R4588", "T1491", "X7", "X80", "X81", "X82", "X83", "Z865", "Z818", "Z915"),
        ),
        (
            *(
                "mental",
                "psych",
                "depress",
                "anxiety",
                "panic",
                "bipolar",
                "schizo",
                "post-traumatic",
            ),
            *("posttraumatic", "adhd", "autis", "anorexia nerv", "bulimi", "eating disorder"),
            *("suicid", "self-harm", "self harm", "obsessive", "personality disorder", "dementia"),
            *("alzheimer", "behavioral health", "behavioural health"),
        ),
        ("ptsd", "ocd", "mdd", "gad"),
    ),
    "hiv": Category(
        "HIV",
        ("B20", "B21", "B22", "B23", "B24", "B9735", "O987", "R75", "Z114", "Z206", "Z21", "Z717"),
        ("human immunodeficiency", "antiretroviral", "pre-exposure proph", "truvada", "descovy"),
        ("hiv", "aids"),
    ),
    "reproductive": Category(
        "reproductive and sexual health",
        (
            *(
                "A5",
                "A60",
                "A61",
                "A62",
                "A63",
                "A64",
                "F52",
                "F64",
                "N46",
                "N52",
                "N96",
                "N97",
                "N98",
            ),
            *("O", "Z113", "Z202", "Z3", "Z640", "Z725", "Z8789"),
        ),
        (
            *("pregnan", "abortion", "miscarriage", "contracept", "fertil", "infertil", "prenatal"),
            *("antenatal", "postpartum", "obstetric", "sexual", "syphilis", "gonorrh", "chlamydia"),
            *("genital", "erectile", "gender", "transgender", "steriliz", "vasectomy"),
        ),
        ("ivf", "std", "stds", "sti", "stis"),
    ),
    # 42 U.S.C. 2000ff (GINA) and state genetic privacy laws.
    "genetic": Category(
        "genetic information",
        ("D56", "D57", "E84", "G10", "Q9", "Z137", "Z14", "Z15", "Z314", "Z315", "Z8481"),
        (
            *("genetic", "genom", "hereditary", "carrier", "huntington", "cystic fibrosis"),
            *("sickle cell", "thalass", "down syndrome", "lynch syndrome"),
        ),
        ("brca", "brca1", "brca2"),
    ),
}
#: A value in a field that the organization itself declared sensitive, of no category above.
OTHER = "other"
LABELS = {kind: category.label for kind, category in CATEGORIES.items()} | {OTHER: "other"}
#: The kind that makes a contact a candidate for 42 CFR Part 2.
PART2_KIND = "substance_use"

_TEXTS = {
    kind: re.compile(
        r"\b(?:"
        + "|".join([re.escape(s) for s in category.stems] + [rf"{w}\b" for w in category.words])
        + ")"
    )
    for kind, category in CATEGORIES.items()
}


def code_of(text: str) -> str | None:
    """Return the ICD-10-CM code that a text is or begins with, upper case without the dot, or None."""
    found = _CODE.match(text)
    return (found[1] + (found[2] or "")).upper() if found else None


@lru_cache(maxsize=50_000)
def kinds_of(text: str) -> frozenset[str]:
    """Return the kinds of sensitive information that a condition, or a field's name, tells of."""
    code, words = code_of(text.strip()), text.casefold().replace("_", " ")
    return frozenset(
        kind
        for kind, category in CATEGORIES.items()
        if (code and code.startswith(category.codes)) or _TEXTS[kind].search(words)
    )
