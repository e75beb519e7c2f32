-- What was seen outside, beside what Dramaturg wrote.
CREATE SCHEMA chaos;
CREATE TABLE chaos.orders (
  tag text NOT NULL, promise text NOT NULL, workflow text NOT NULL, way text NOT NULL, at float8 NOT NULL,
  run_id text NOT NULL, result text NOT NULL, status text NOT NULL, key text NOT NULL
);
CREATE TABLE chaos.verbs (run_id text NOT NULL, verb text NOT NULL, at float8 NOT NULL, until float8 NOT NULL, is_answered bool NOT NULL);
CREATE TABLE chaos.faults (name text NOT NULL, at float8 NOT NULL, until float8 NOT NULL, loses_messages bool NOT NULL, keeps_copies bool NOT NULL);
CREATE TABLE chaos.speech (
  run_id text NOT NULL, what text NOT NULL, name text NOT NULL, given text NOT NULL, expected text NOT NULL, answer text NOT NULL,
  is_keyed bool NOT NULL, heard text NOT NULL, tries int NOT NULL, at float8 NOT NULL, until float8 NOT NULL
);
CREATE TABLE chaos.timetables (schedule_id text NOT NULL, start_at float8 NOT NULL, end_at float8 NOT NULL, every float8 NOT NULL);
CREATE TABLE chaos.queued (message_id text NOT NULL);
CREATE TABLE chaos.ledger (
  what text NOT NULL, at float8 NOT NULL, run_id text NOT NULL, seq int NOT NULL, attempt int NOT NULL, key text NOT NULL, pid int NOT NULL
);
