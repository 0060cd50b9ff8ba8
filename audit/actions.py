"""What can be recorded: every action, and the sentence that the log shows for it.

An action that is not here cannot be recorded, so the log has no words that nobody can read. Actions are
`noun.past_participle`.
"""

#: Action → what happened, to follow the actor's name.
ACTIONS: dict[str, str] = {
    # contacts
    "contact.imported": "imported contacts",
    "contact.created": "added a contact",
    "contact.changed": "changed a contact",
    "contact.viewed": "looked at contacts",
    "contact.searched": "searched the contacts",
    "contact.erased": "erased a contact",
    "contact.explained": "asked whether a contact may be written to",
    "field.created": "added a contact field",
    "field.changed": "changed a contact field",
    "import.uploaded": "uploaded a file to import",
    "import.checked": "checked an import file",
    "import.applied": "applied an import",
    "import.resumed": "resumed an import",
    "import.cancelled": "cancelled an import",
    "import.failed": "could not apply an import",
    "segment.created": "created a segment",
    "segment.changed": "changed a segment",
    "segment.deleted": "deleted a segment",
    "segment.counted": "counted a segment",
    "terms.rebuilt": "rebuilt the search terms",
    # consent
    "form.drafted": "drafted an authorization form",
    "form.published": "published an authorization form version",
    "form.retired": "retired an authorization form version",
    "authorization.recorded": "recorded authorizations",
    "authorization.revoked": "recorded a revocation",
    "opt_out.recorded": "recorded an opt-out",
    "opt_out.lifted": "recorded that an opt-out no longer applies",
    "suppression.recorded": "suppressed an address",
    "suppression.lifted": "recorded that a suppression no longer applies",
    "restriction.recorded": "recorded a restriction",
    "restriction.lifted": "recorded that a restriction no longer applies",
    "preference.recorded": "recorded a preference",
    # builder
    "template.saved": "saved a template",
    "template.deleted": "deleted a template",
    "revision.frozen": "froze a revision",
    # campaigns
    "campaign.created": "created a campaign",
    "campaign.changed": "changed a campaign",
    "campaign.duplicated": "duplicated a campaign",
    "campaign.submitted": "submitted a campaign for review",
    "campaign.approved": "approved a campaign",
    "campaign.returned": "returned a campaign",
    "campaign.voided": "voided an approval by a change",
    "campaign.scheduled": "scheduled a campaign",
    "campaign.started": "started a campaign",
    "campaign.paused": "paused a campaign",
    "campaign.resumed": "resumed a campaign",
    "campaign.cancelled": "cancelled a campaign",
    "campaign.finished": "finished a campaign",
    "campaign.expired": "let an approval or a campaign expire",
    "audience.counted": "counted an audience",
    "audience.frozen": "froze an audience into the ledger",
    # delivery
    "set.handed_over": "handed a set of messages over",
    "message.recorded": "recorded what became of messages",
    "message.withheld": "withheld messages",
    "message.resolved": "resolved messages in doubt",
    "message.emptied": "emptied the merge values of old messages",
    "message.viewed": "looked at a message as it was sent",
    "event.received": "received events from outside",
    "domain.created": "added a sending domain",
    "domain.changed": "changed a sending domain",
    "domain.verified": "verified a sending domain",
    "address.created": "added a sending address",
    "address.changed": "changed a sending address",
    "sending.stopped": "stopped all sending",
    "sending.resumed": "allowed sending again",
    # keys
    "key.created": "created keys",
    "key.rotated": "rotated keys",
    "key.destroyed": "destroyed keys",
    "token.created": "created an API key",
    "token.revoked": "revoked an API key",
    # people
    "organization.created": "created an organization",
    "organization.changed": "changed an organization",
    "user.created": "created a user",
    "user.invited": "invited a user",
    "user.changed": "changed a user",
    "user.deactivated": "deactivated a user",
    "user.reactivated": "reactivated a user",
    "role.granted": "granted a role",
    "role.changed": "changed a role",
    "role.revoked": "took a role away",
    "password.changed": "changed a password",
    "password.reset": "reset a password",
    "device.added": "added a second factor",
    "device.confirmed": "confirmed a second factor",
    "device.removed": "removed a second factor",
    "codes.created": "created recovery codes",
    "codes.used": "used a recovery code",
    "session.started": "signed in",
    "session.ended": "signed out",
    "session.expired": "was signed out by time",
    "session.refused": "failed to sign in",
    "session.elevated": "confirmed who they are",
    "access.denied": "was refused",
    # files, reports, the log itself
    "file.staged": "staged a file",
    "file.read": "read a staged file",
    "file.expired": "let staged files expire",
    "file.deleted": "deleted a staged file",
    "report.made": "made a report",
    "report.viewed": "looked at a report",
    "export.made": "made an export",
    "log.viewed": "looked at the log",
    "log.verified": "verified the log",
    "log.exported": "exported the log",
    "demo.loaded": "loaded invented data",
}


class UnknownAction(LookupError):
    """An action that audit/actions.py does not list."""


def sentence(action: str) -> str:
    """Return what an action says, e.g. "approved a campaign"; raises UnknownAction."""
    try:
        return ACTIONS[action]
    except KeyError:
        raise UnknownAction(f"{action!r} is not listed in audit/actions.py.") from None
