"""The counter of active contacts, and the end of a contact's terms, are kept by triggers: no code can forget them."""

from django.db import migrations

SQL = """
CREATE FUNCTION contacts_count(changes bigint[], organizations uuid[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO contacts_tally (organization_id, contacts)
    SELECT organization, sum(change) FROM unnest(organizations, changes) AS c(organization, change)
    -- In one order for everybody, so that nobody waits in a circle.
    GROUP BY organization HAVING sum(change) <> 0 ORDER BY organization
    ON CONFLICT (organization_id) DO UPDATE SET contacts = contacts_tally.contacts + excluded.contacts
$$;

CREATE FUNCTION contacts_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM contacts_count(array_agg(n), array_agg(organization_id)) FROM (
        SELECT organization_id, count(*) AS n FROM fresh WHERE standing = 'active' GROUP BY 1) counted
    HAVING count(*) > 0;
    RETURN NULL;
END $$;

CREATE FUNCTION contacts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM old_rows o JOIN fresh f USING (id) WHERE o.standing <> f.standing) THEN
        DELETE FROM contacts_termrow t USING fresh f WHERE t.contact_id = f.id AND f.standing <> 'active';
        PERFORM contacts_count(array_agg(n), array_agg(organization_id)) FROM (
            SELECT organization_id, sum(change) AS n FROM (
                SELECT organization_id, 1 AS change FROM fresh WHERE standing = 'active'
                UNION ALL SELECT organization_id, -1 FROM old_rows WHERE standing = 'active') each
            GROUP BY 1) counted
        HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION contacts_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE contacts_tally t SET contacts = t.contacts - counted.n FROM (
        SELECT organization_id, count(*) AS n FROM old_rows WHERE standing = 'active' GROUP BY 1) counted
    WHERE t.organization_id = counted.organization_id;
    RETURN NULL;
END $$;

CREATE TRIGGER contacts_added AFTER INSERT ON contacts_contact
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION contacts_added();
CREATE TRIGGER contacts_changed AFTER UPDATE ON contacts_contact
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION contacts_changed();
CREATE TRIGGER contacts_removed AFTER DELETE ON contacts_contact
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION contacts_removed();
"""

REVERSE_SQL = """
DROP TRIGGER contacts_added ON contacts_contact;
DROP TRIGGER contacts_changed ON contacts_contact;
DROP TRIGGER contacts_removed ON contacts_contact;
DROP FUNCTION contacts_added, contacts_changed, contacts_removed;
DROP FUNCTION contacts_count(bigint[], uuid[]);
"""


class Migration(migrations.Migration):
    dependencies = [("contacts", "0001_initial")]
    operations = [migrations.RunSQL(SQL, REVERSE_SQL)]
