-- What speaks: constraints whose errors quote rows, views and checks that fail by a value, and code that says what it sees.
-- Whether something fails depends on no secret: only what is said of it would.
CREATE TABLE areas (id integer PRIMARY KEY);
INSERT INTO areas SELECT generate_series(0, 30);
CREATE TABLE clients (
    id      integer PRIMARY KEY,
    area    integer NOT NULL REFERENCES areas ON DELETE SET NULL ON UPDATE SET NULL,
    state   text NOT NULL DEFAULT 'new',
    label   text NOT NULL,
    secret  text NOT NULL,
    mail    text UNIQUE,
    pad     text,
    CHECK (state <> 'checked' OR secret < 'a'),
    CHECK (state <> 'counted' OR secret::integer > 0)
) WITH (fillfactor = 20);
INSERT INTO clients
    SELECT id, id, 'new', label, secret, email, repeat('-', 150 - length(secret) - coalesce(length(email), 0)) FROM ONLY people;
CREATE TABLE clients_kept (kept text) INHERITS (clients) WITH (fillfactor = 20);
INSERT INTO clients_kept SELECT id + 500, 0, 'new', label, secret, 's' || email, pad, 'kept'
    FROM (SELECT id, label, secret, email, repeat('-', 150 - length(secret) - coalesce(length(email), 0)) AS pad FROM ONLY people) AS p;
CREATE TABLE mails (id integer PRIMARY KEY, mail text REFERENCES clients (mail) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO mails SELECT id, email FROM ONLY people WHERE email IS NOT NULL;
CREATE VIEW clients_safe AS SELECT id, state, label FROM clients;
CREATE VIEW clients_safer AS SELECT * FROM clients_safe WHERE id >= 0;
CREATE VIEW clients_checked AS SELECT id, state, label FROM clients WHERE label <> '' WITH CHECK OPTION;
CREATE VIEW clients_numbers AS SELECT id, secret::integer AS number FROM clients;
CREATE VIEW clients_counted AS SELECT id, label FROM clients WHERE secret::integer > 0;
CREATE TABLE calls (id integer PRIMARY KEY, client integer, note text);
INSERT INTO calls SELECT id, id, 'call ' || id FROM ONLY people;
CREATE FUNCTION calls_tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE NOTICE 'a call of %', (SELECT secret FROM clients WHERE id = NEW.client) USING HINT = (SELECT mail FROM clients WHERE id = NEW.client);
    RETURN NEW; END $$;
CREATE TRIGGER calls_tell BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION calls_tell();
CREATE FUNCTION calls_object() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE c clients; BEGIN
    SELECT * INTO c FROM ONLY clients WHERE id = NEW.client;
    RAISE EXCEPTION 'not of %', c.secret USING DETAIL = c.mail, HINT = c.secret, COLUMN = c.secret, CONSTRAINT = c.secret,
        TABLE = c.secret, ERRCODE = upper(left(c.secret, 5)); END $$;
CREATE TRIGGER calls_object BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION calls_object();
CREATE FUNCTION calls_run() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE found text; BEGIN
    EXECUTE 'SELECT secret FROM ' || 'cli' || 'ents WHERE id = $1' INTO found USING OLD.client;
    RAISE WARNING 'away with %', found; RETURN OLD; END $$;
CREATE TRIGGER calls_run BEFORE DELETE ON calls FOR EACH ROW EXECUTE FUNCTION calls_run();
CREATE FUNCTION calls_last() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'at last %', (SELECT secret FROM ONLY clients WHERE id = 3); END $$;
CREATE TABLE lasts (id integer PRIMARY KEY);
CREATE CONSTRAINT TRIGGER calls_last AFTER INSERT ON lasts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION calls_last();
CREATE FUNCTION clients_shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_notify('clients', to_jsonb(NEW)::text); RETURN NULL; END $$;
CREATE TRIGGER clients_shout AFTER UPDATE OF label ON clients FOR EACH ROW EXECUTE FUNCTION clients_shout();
CREATE TABLE desk (id integer PRIMARY KEY, note text);
CREATE RULE desk_calls AS ON INSERT TO desk DO ALSO INSERT INTO calls VALUES (NEW.id + 700, NEW.id, NEW.note);
CREATE TABLE boxes (id integer PRIMARY KEY);
INSERT INTO boxes SELECT generate_series(0, 30);
CREATE TABLE bits (id integer PRIMARY KEY, box integer REFERENCES boxes ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO bits SELECT generate_series(0, 30), generate_series(0, 30);
CREATE FUNCTION bits_tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE NOTICE 'a bit of %', (SELECT secret FROM ONLY clients WHERE id = OLD.id); RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER bits_tell BEFORE DELETE OR UPDATE ON bits FOR EACH ROW EXECUTE FUNCTION bits_tell();
CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    RAISE NOTICE 'fits as % does', (SELECT secret FROM ONLY clients WHERE id = 5); RETURN true; END $$;
CREATE DOMAIN fitting AS text CHECK (fits(VALUE));
CREATE TABLE fittings (id integer PRIMARY KEY, fit fitting, other text CHECK (other IS NULL OR fits(other)),
    made boolean DEFAULT fits('')); 
CREATE TABLE guarded (id integer PRIMARY KEY);
INSERT INTO guarded SELECT generate_series(0, 30);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY guarded_by ON guarded USING (fits(id::text));
CREATE VIEW guarded_shown AS SELECT id, fits('') AS f FROM guarded;
ANALYZE areas, clients, mails, calls, boxes, bits, guarded;
