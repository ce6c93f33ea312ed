-- Masked columns in every place that a definition can reach: keys, children, partitions, domains, composites, views,
-- generated columns, functions. Made by the role that nodegate logs in as.
CREATE SCHEMA archive;
CREATE TYPE place AS (street text, number integer);
CREATE TYPE mood AS ENUM ('calm', 'glad');
CREATE DOMAIN address AS text CHECK (value ~ '@');
CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, ssn text NOT NULL, city text,
    home place, feels mood, email_host text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED);
CREATE TABLE customers_vip (tier text DEFAULT 'gold') INHERITS (customers);
CREATE TABLE archive.customers (LIKE customers INCLUDING ALL);
CREATE TABLE orders (id integer PRIMARY KEY, customer_id integer NOT NULL, amount numeric);
CREATE TABLE logins (id integer PRIMARY KEY, email text);
CREATE TABLE contacts (id integer PRIMARY KEY, mail address NOT NULL);
CREATE TABLE staff (id integer PRIMARY KEY, name text, email text);
CREATE TABLE archive.staff (id integer PRIMARY KEY, name text, email text);
CREATE TABLE events (id integer, region text, payload text) PARTITION BY LIST (region);
CREATE TABLE events_north PARTITION OF events FOR VALUES IN ('north');
CREATE TABLE plain (id integer PRIMARY KEY, label text, feels mood);
CREATE VIEW v_safe AS SELECT id, name, city FROM customers;
CREATE VIEW settings AS SELECT name, setting FROM pg_settings;
CREATE FUNCTION label_of(who integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM customers WHERE id = who';
CREATE FUNCTION mail_of(who integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT email FROM customers WHERE id = who';
CREATE FUNCTION mail_kept(who integer) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT email FROM customers c WHERE c.id = who; END;
CREATE FUNCTION mail_by_hand(who integer) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT email FROM customers WHERE id = who); END';
CREATE FUNCTION first_mail(plain) RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT min(email) FROM customers); END';
CREATE FUNCTION add_order(integer) RETURNS void LANGUAGE sql AS 'INSERT INTO orders VALUES ($1, 1, 5)';
CREATE FUNCTION mails() RETURNS SETOF text LANGUAGE sql AS 'SELECT email FROM staff';
CREATE FUNCTION archived() RETURNS SETOF text LANGUAGE sql SET search_path = archive AS 'SELECT email FROM staff';
CREATE PROCEDURE forget(integer) LANGUAGE sql AS 'DELETE FROM orders WHERE id = $1';
INSERT INTO customers VALUES (1, 'Ada', 'ada.real@example.com', '100-11', 'Oslo', ROW('real street', 7), 'glad'),
    (2, 'Alan', 'alan.real@example.com', '200-22', 'Rome', ROW('other street', 8), 'calm');
INSERT INTO customers_vip VALUES (3, 'Grace', 'grace.real@example.com', '300-33', 'Oslo', NULL, 'calm');
INSERT INTO archive.customers VALUES (1, 'Ada', 'ada.real@example.com', '100-11', 'Oslo', NULL, 'calm');
INSERT INTO contacts VALUES (1, 'ada.real@example.com');
INSERT INTO staff VALUES (1, 'Ken', 'ken@open.example.com');
INSERT INTO archive.staff VALUES (1, 'Ken', 'ken.real@example.com');
INSERT INTO events VALUES (1, 'north', 'real payload');
INSERT INTO orders VALUES (1, 1, 10), (2, 2, 20);
INSERT INTO plain VALUES (1, 'a', 'calm');
