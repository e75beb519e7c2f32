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
