-- Outcomes with the generation that they belong to, and the moment at which they were there for others.
CREATE TABLE chaos.outcomes AS
SELECT e.run_id, (e.data::jsonb ->> 'seq')::int AS seq, e.data::jsonb ->> 'name' AS name, e.type, e.number,
  extract(epoch FROM pg_xact_commit_timestamp(e.xmin))::float8 AS recorded_at,
  1 + (SELECT count(*) FROM dramaturg_events g
       WHERE g.run_id = e.run_id AND g.number < e.number AND g.type IN ('run.retried', 'run.reset')) AS generation
FROM dramaturg_events e
WHERE e.type IN ('step.completed', 'step.failed', 'step.timed_out', 'step.cancelled', 'step.skipped');
CREATE INDEX ON chaos.outcomes (run_id, seq);
CREATE INDEX ON chaos.ledger (run_id, seq);
CREATE INDEX ON chaos.orders (run_id);
CREATE INDEX ON chaos.orders (tag);
CREATE INDEX ON dramaturg_runs ((tags::jsonb ->> 'order'));
ANALYZE;
-- What began after its success was recorded. A worker that was frozen, or whose Redis was emptied, since the step was
-- scheduled may hold a copy of its message that nobody can take back.
CREATE TABLE chaos.late AS
SELECT l.*, EXISTS (
  SELECT FROM chaos.faults f JOIN dramaturg_events s ON s.run_id = l.run_id AND s.type = 'step.scheduled'
  WHERE (f.loses_messages OR f.keeps_copies) AND (s.data::jsonb ->> 'seq')::int = l.seq
    AND f.at < l.at AND f.until > extract(epoch FROM s.time)
) AS is_explained
FROM chaos.ledger l JOIN chaos.outcomes o ON o.run_id = l.run_id AND o.seq = l.seq AND o.type = 'step.completed'
WHERE l.what = 'begun' AND l.at > o.recorded_at + 1;
-- Runs with the first one of their chain, which is what clients know.
CREATE TABLE chaos.chains AS
WITH RECURSIVE chain AS (
  SELECT run_id, run_id AS first FROM dramaturg_runs WHERE continued_from IS NULL
  UNION ALL
  SELECT r.run_id, c.first FROM dramaturg_runs r JOIN chain c ON r.continued_from = c.run_id
)
SELECT * FROM chain;
CREATE INDEX ON chaos.chains (run_id);
-- What was said, as histories have it; a signal that a run handed on untaken counts in the next one.
CREATE TABLE chaos.records AS
SELECT c.first AS run_id, e.run_id AS recorded_in, r.* FROM dramaturg_events e
JOIN chaos.chains c ON c.run_id = e.run_id
CROSS JOIN LATERAL (
  SELECT 'signal' AS what, e.data::jsonb -> 'payload' ->> 0 AS name, NULL::jsonb AS answer, NULL::int AS seq
  WHERE e.type = 'signal.received' AND NOT EXISTS (
    SELECT FROM dramaturg_events w
    WHERE w.run_id = e.run_id AND w.type = 'run.continued' AND w.data::jsonb -> 'signals' ? (e.data::jsonb ->> 'message_id')
  )
  UNION ALL
  SELECT 'update', e.data::jsonb -> 'input' -> 'args' ->> 0, (
    SELECT w.data::jsonb -> 'result' FROM dramaturg_events w
    WHERE w.run_id = e.run_id AND w.type = 'update.completed' AND w.data::jsonb ->> 'message_id' = e.data::jsonb ->> 'message_id'
  ), NULL WHERE e.type = 'update.accepted'
  UNION ALL
  SELECT 'decision', e.data::jsonb ->> 'by', e.data::jsonb -> 'approved', (e.data::jsonb ->> 'seq')::int WHERE e.type = 'approval.decided'
  UNION ALL
  SELECT 'call', e.data::jsonb -> 'payload' ->> 0, e.data::jsonb -> 'payload' -> 1, (e.data::jsonb ->> 'seq')::int WHERE e.type = 'hook.resolved'
) r
WHERE e.type IN ('signal.received', 'update.accepted', 'approval.decided', 'hook.resolved');
CREATE INDEX ON chaos.records (name);
-- Each thing that was said, with all tries to say it.
CREATE TABLE chaos.things AS
SELECT s.run_id, s.what, s.name, bool_or(s.heard = 'yes') AS is_heard, bool_and(s.heard = 'no' AND s.tries = 1) AS is_refused,
  bool_and(s.is_keyed) AS is_keyed, sum(s.tries)::int AS tries,
  (SELECT count(*) FROM chaos.records r WHERE r.name = s.name AND r.run_id = s.run_id)::int AS recorded
FROM chaos.speech s GROUP BY s.run_id, s.what, s.name;
-- The times of schedules, and the runs that are for them.
CREATE TABLE chaos.times AS
SELECT t.schedule_id, to_timestamp(t.start_at + n * t.every) AS time
FROM chaos.timetables t CROSS JOIN LATERAL generate_series(0, floor((t.end_at - t.start_at) / t.every)::int) AS n;
CREATE TABLE chaos.scheduled AS
SELECT run_id, tags::jsonb ->> 'dramaturg.schedule' AS schedule_id, (tags::jsonb ->> 'dramaturg.scheduled_for')::timestamptz AS time, started_at
FROM dramaturg_runs WHERE tags::jsonb ? 'dramaturg.schedule';
