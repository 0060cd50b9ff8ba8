"""Every column that is kept in clear, with the reason why it may be; and of every encrypted one, what ends it.

A column that is on neither list fails the build (tests/test_register.py), so a new one is encrypted or explained.
"""

ID = "made at random; tells nothing"
LINK = "which row it belongs to: an id that tells nothing without that row"
TIME = "when the row was made or moved on; of our work, not of a person's life"
STATE = "a word or number of a fixed vocabulary that queries select by"
COUNT = "a number of things"
STAFF = "written by staff for staff, and shown in lists; about the organization, not about a person"
ACTOR = "who of the staff, or which part of the system, by id"
DIGEST = "keyed HMAC-SHA256 (phi/digest.py): equal for equal values, unreadable without the key"
FRAMEWORK = "Django's own; holds names of code"

#: 45 CFR 164.530(j) and 164.316(b)(2): policies, and actions that must be on record, are kept six years.
KEPT = "45 CFR 164.530(j): kept six years"
#: The organization's end: destroying its keys makes the value unreadable.
CRYPTO_ERASE = "phi.keys.destroy_keys"


def _each(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


#: What every consent fact has.
_FACT = {
    **_each("id", ID),
    **_each("organization contact", LINK),
    **_each(
        "effective_at recorded_at",
        "the gate compares them in SQL; the day of a decision about mail, beside an id only",
    ),
    **_each("recorded_by", ACTOR),
    **_each("source", STATE),
}

#: {model: {column: why it may be in clear}}
CLEAR: dict[str, dict[str, str]] = {
    "phi.DataKey": {
        **_each("id purpose", STATE),
        **_each("organization_id", LINK),
        "wrapped": "encrypted already, by the master key",
        **_each("created_at destroyed_at", TIME),
    },
    "audit.Entry": {
        **_each("id xid", "the order of the log"),
        **_each("at", TIME),
        **_each("action", STATE),
        **_each("organization_id target_label target_id", LINK),
        **_each("actor", ACTOR),
        **_each("count", COUNT),
        "fields": "names of fields, never values (audit/record.py checks)",
        "detail": "ids, numbers and words, never values (audit/record.py checks)",
        "facts": "numbers of rows and their hashes",
    },
    "audit.Fact": {
        **_each("id", "the order of the log"),
        **_each("entry label row_id", LINK),
        "sha256": "over a stored row, random ids and sealed values included: not to be guessed",
    },
    "audit.Block": {
        **_each("number count total first_id last_id watermark", COUNT),
        **_each("previous root", "hashes over entries"),
        **_each("public_key signature", "made to be shown"),
        **_each("sealed_at", TIME),
    },
    "audit.Membership": {
        **_each("entry block", LINK),
        **_each("position", COUNT),
        "leaf": "hash of an entry",
    },
    "accounts.Organization": {
        **_each("id", ID),
        **_each("name slug postal_address accent", "public: every message shows it"),
        **_each("kind transport_policy is_active tracking_allowed treatment_terms", STATE),
        **_each("approvals_required audience_margin_percent small_cell", COUNT),
        "time_zone": "says where dates are whole days",
        **_each("sending_stopped_at created_at", TIME),
        "agreement_ends_on": "of a contract between organizations",
    },
    "accounts.SendingDomain": {
        **_each("id", ID),
        **_each("organization", LINK),
        **_each("domain bounce_domain", "public in DNS"),
        **_each("verified_at", TIME),
    },
    "accounts.User": {
        **_each("id", ID),
        "password": "Argon2 hash",
        **_each(
            "email name", "of staff, who sign in and are found by it; staff are no patients here"
        ),
        **_each("is_active", STATE),
        **_each("session_number", COUNT),
        **_each("last_login created_at", TIME),
    },
    "accounts.Membership": {
        **_each("id", ID),
        **_each("user organization", LINK),
        **_each("role", STATE),
        **_each("created_at", TIME),
    },
    "accounts.TOTPDevice": {
        **_each("id", ID),
        **_each("user", LINK),
        "name": STAFF,
        **_each("confirmed throttling_failure_count last_step", STATE),
        **_each("throttling_failure_timestamp", TIME),
    },
    "accounts.RecoveryCode": {
        **_each("id", ID),
        **_each("user", LINK),
        "hashed": DIGEST,
        **_each("used_at", TIME),
    },
    "files.StagedFile": {
        **_each("id", ID),
        **_each("organization", LINK),
        **_each("kind content_type", STATE),
        **_each("size", COUNT),
        **_each("created_by", ACTOR),
        **_each("created_at expires_at", TIME),
    },
    "files.Chunk": {
        **_each("id", ID),
        **_each("organization file", LINK),
        **_each("number", COUNT),
    },
    "contacts.Contact": {
        **_each("id", ID),
        **_each("organization merged_into", LINK),
        **_each("kind standing", STATE),
        "source": "name of the system that the record number comes from",
        **_each("record_digest email_digest domain_digest", DIGEST),
        **_each("created_at updated_at erased_at", TIME),
    },
    "contacts.CustomField": {
        **_each("id", ID),
        **_each("organization", LINK),
        **_each("key label", STAFF),
        **_each("data_class type", STATE),
    },
    "contacts.Term": {
        **_each("organization", LINK),
        "number": "short form of the digest; made at random among those free",
        "digest": DIGEST,
    },
    "contacts.TermRow": {
        **_each("contact organization", LINK),
        "terms": "blind, yet PHI: frequency and order show (docs/threat-model.md), so volumes are encrypted",
    },
    "contacts.Tally": {**_each("organization", LINK), **_each("contacts", COUNT)},
    "contacts.Segment": {
        **_each("id", ID),
        **_each("organization", LINK),
        "name": STAFF,
        **_each("created_by_id", ACTOR),
        **_each("created_at updated_at", TIME),
    },
    "contacts.Import": {
        **_each("id", ID),
        **_each("organization file rejected_file", LINK),
        "source": "name of the system that the file comes from",
        **_each("status encoding separator refusal", STATE),
        **_each("plan rows rejected created updated unchanged next_row", COUNT),
        "problems": "row numbers, field keys and our sentences, never values (contacts/set_aside.py)",
        **_each("created_by_id", ACTOR),
        **_each("created_at finished_at", TIME),
    },
    "consent.FormVersion": {
        **_each("id", ID),
        **_each("organization", LINK),
        **_each(
            "name number language information information_classes disclosers recipients purposes "
            "expires_after_days expiry_event statement_revoke statement_condition "
            "statement_redisclosure statement_remuneration payers",
            "the text of a form that is handed to everybody (164.508(c)); about nobody",
        ),
        **_each("created_at published_at", TIME),
        **_each("published_by_id", ACTOR),
    },
    "consent.Authorization": {
        **_FACT,
        **_each("form_version", LINK),
        **_each(
            "signed_on expires_on copy_given_on",
            "the gate compares them in SQL; the day of a signature, beside an id only",
        ),
        **_each("signer", STATE),
    },
    "consent.Revocation": {**_FACT, **_each("authorization", LINK), **_each("kind", STATE)},
    "consent.OptOut": {**_FACT, **_each("direction scope", STATE), "email_digest": DIGEST},
    "consent.Suppression": {
        **{column: reason for column, reason in _FACT.items() if column != "contact"},
        **_each("action reason", STATE),
        "email_digest": DIGEST,
    },
    "consent.ChannelPreference": {**_FACT, **_each("email_allowed", STATE)},
    "consent.Restriction": {**_FACT, **_each("in_force purposes", STATE)},
    "consent.UnencryptedPreference": {**_FACT, **_each("accepted warning_version", STATE)},
    "builder.EmailTemplate": {
        **_each("id", ID),
        **_each("organization", LINK),
        **_each(
            "name language subject preheader document", "what is sent to everybody, with holes"
        ),
        **_each("created_by_id", ACTOR),
        **_each("created_at updated_at", TIME),
    },
    "builder.Revision": {
        **_each("id", ID),
        **_each("organization template", LINK),
        **_each("number", COUNT),
        **_each("language subject preheader document", "what is sent to everybody, with holes"),
        **_each("created_by_id", ACTOR),
        **_each("created_at", TIME),
    },
    "campaigns.Sender": {
        **_each("id", ID),
        **_each("organization domain", LINK),
        **_each(
            "local_part display_name reply_to", "public: the From and Reply-To of every message"
        ),
    },
    "campaigns.Campaign": {
        **_each("id", ID),
        **_each("organization segment revision sender", LINK),
        **_each("name payer", STAFF),
        **_each("status purpose transport_policy is_tracked held_reason", STATE),
        **_each("remuneration_cents", "of a contract between organizations"),
        **_each("author_id editor_ids", ACTOR),
        **_each("send_at latest_at created_at updated_at started_at frozen_at finished_at", TIME),
    },
    "campaigns.Submission": {
        **_each("id", ID),
        **_each("organization campaign", LINK),
        **_each("number audience audience_total ceiling", COUNT),
        **_each("pieces html text", "what is sent to everybody, with holes"),
        "content_hash": "over the above and the criteria, with ids in it: not to be guessed",
        **_each("submitted_by_id", ACTOR),
        **_each("submitted_at", TIME),
    },
    "campaigns.Approval": {
        **_each("id", ID),
        **_each("organization submission", LINK),
        **_each("decision", STATE),
        "content_hash": "that of the submission",
        **_each("decided_by_id", ACTOR),
        **_each("decided_at expires_at", TIME),
    },
    "delivery.Stream": {
        **_each("id", ID),
        **_each("organization", LINK),
        **_each("kind is_open", STATE),
    },
    "delivery.IPPool": {**_each("id", ID), **_each("organization stream", LINK), "name": STAFF},
    "delivery.SendingIP": {
        **_each("id", ID),
        **_each("organization pool", LINK),
        **_each("address helo", "public: our own address on the network"),
        **_each("is_open", STATE),
    },
    "delivery.DkimKey": {
        **_each("id", ID),
        **_each("organization domain", LINK),
        **_each("selector public_txt", "public in DNS"),
        **_each("created_at used_from retired_at", TIME),
    },
    "delivery.Destination": {
        **_each("id", ID),
        **_each("organization", LINK),
        "domain_digest": DIGEST,
        **_each("tls failures", STATE),
        **_each("tls_seen_at closed_until", TIME),
    },
    "delivery.Message": {
        **_each("id", ID),
        **_each("organization campaign submission contact destination sending_ip journal_id", LINK),
        **_each("step attempt", COUNT),
        **_each("state reason code", STATE),
        **_each("due_at claimed_at handed_over_at finished_at", TIME),
    },
    "delivery.Receipt": {
        **_each("id", ID),
        **_each("organization message", LINK),
        **_each("attempt", COUNT),
        **_each("state tls_version cipher verified_by policy code enhanced", STATE),
        "sending_ip": "our own address on the network",
        "certificate": "hash of a certificate that a mail server shows to everybody",
        **_each("handed_over_at replied_at", TIME),
    },
    "delivery.Event": {
        **_each("id", ID),
        **_each("organization message", LINK),
        **_each("type kind source", STATE),
        **_each("occurred_at", TIME),
    },
    "contenttypes.ContentType": _each("id app_label model", FRAMEWORK),
    "auth.Permission": _each("id name content_type codename", FRAMEWORK),
    "auth.Group": _each("id name", FRAMEWORK),
    "auth.Group_permissions": _each("id group permission", FRAMEWORK),
    "sessions.Session": {
        "session_key": "made at random",
        "session_data": "ids of the user and of the second factor; searches are kept elsewhere",
        "expire_date": TIME,
    },
}

#: {model: {encrypted column: the function that ends it, or the rule that keeps it}}
ERASERS_OF: dict[str, dict[str, str]] = {
    "accounts.TOTPDevice": {"seed": "accounts.otp.remove"},
    "files.StagedFile": _each("name sha256", "files.staging.expire"),
    "files.Chunk": {"data": "files.staging.expire"},
    "contacts.Contact": _each(
        "record_number email first_name last_name date_of_birth sex state zip language attributes",
        "contacts.erase.erase",
    ),
    # What was imported on whose word, and whom a campaign was meant for.
    "contacts.Import": _each("mapping new_fields options", KEPT),
    "contacts.Segment": {"criteria": KEPT},
    # 45 CFR 164.508(b)(6) for authorizations; 16 CFR 316.5 for the rest.
    "consent.Authorization": _each("evidence representative_authority", KEPT),
    "consent.Revocation": {"evidence": KEPT},
    "consent.OptOut": {"evidence": KEPT},
    "consent.Suppression": {"evidence": KEPT},
    "consent.ChannelPreference": {"evidence": KEPT},
    "consent.Restriction": {"evidence": KEPT},
    "consent.UnencryptedPreference": {"evidence": KEPT},
    "campaigns.Submission": {"bound": KEPT},
    "campaigns.Approval": {"comment": KEPT},
    "delivery.DkimKey": {"private_pem": CRYPTO_ERASE},
    "delivery.Destination": {"domain": CRYPTO_ERASE},
    "delivery.Message": {"values": "delivery.retention.erase_values"},
    "delivery.Receipt": {"peer": KEPT},
}
