-- Each statement lists what is wrong, one line of text each; none is what the books want. Above each: what must hold.

-- every accepted start has its run
SELECT format('%s: %s of %s, run %s', o.tag, o.way, o.workflow, o.run_id)
FROM chaos.orders o LEFT JOIN dramaturg_runs r ON r.run_id = o.run_id
WHERE o.promise = 'accepted' AND r.run_id IS NULL

-- a start that failed at its client began all of its runs or none
SELECT format('%s: %s of %s, %s of %s runs', o.tag, min(o.way), min(o.workflow), min(f.runs), count(*))
FROM chaos.orders o
JOIN LATERAL (
  SELECT count(*) AS runs FROM dramaturg_runs r WHERE r.tags::jsonb ->> 'order' = o.tag AND r.continued_from IS NULL
) f ON true
WHERE o.promise = 'uncertain'
GROUP BY o.tag HAVING min(f.runs) NOT IN (0, count(*))

-- a message that came to nothing was in Redis when it was lost
SELECT format('%s: %s, run %s, sent at %s', o.tag, o.workflow, o.run_id, to_timestamp(o.at))
FROM chaos.orders o LEFT JOIN dramaturg_runs r ON r.run_id = o.run_id
WHERE o.promise = 'sent' AND r.run_id IS NULL
  AND NOT EXISTS (SELECT FROM chaos.faults f WHERE f.loses_messages AND f.until > o.at)

-- every run was ordered
SELECT format('%s %s, tags %s', r.workflow, r.run_id, r.tags)
FROM dramaturg_runs r
WHERE r.parent IS NULL AND NOT EXISTS (SELECT FROM chaos.orders o WHERE o.tag = r.tags::jsonb ->> 'order')
  AND NOT EXISTS (SELECT FROM chaos.scheduled s WHERE s.run_id = r.run_id)

-- a run that completed has no child that did not
SELECT format('%s %s is %s, its parent %s completed', c.workflow, c.run_id, c.status, c.parent)
FROM dramaturg_runs c JOIN dramaturg_runs p ON p.run_id = c.parent
WHERE p.status = 'COMPLETED' AND c.status NOT IN ('COMPLETED', 'CONTINUED')

-- one key is one run
SELECT format('%s: %s', o.key, string_agg(DISTINCT o.run_id, ', '))
FROM chaos.orders o WHERE o.key <> '' AND o.run_id <> ''
GROUP BY o.key HAVING count(DISTINCT o.run_id) > 1

-- every run is closed
SELECT format('%s %s is %s since %s', workflow, run_id, status, updated_at)
FROM dramaturg_runs WHERE closed_at IS NULL

-- every run that nobody stopped ended as its shape does
SELECT format('%s %s is %s: %s', r.workflow, r.run_id, r.status, left(coalesce(r.error, r.result), 300))
FROM dramaturg_runs r
JOIN (SELECT DISTINCT tag, status FROM chaos.orders) o ON o.tag = r.tags::jsonb ->> 'order'
WHERE r.closed_at IS NOT NULL AND r.status NOT IN (o.status, 'CONTINUED')
  AND NOT EXISTS (SELECT FROM chaos.verbs v WHERE v.run_id = r.run_id)

-- a run that was stopped ended so, or as its shape does
SELECT format('%s %s is %s after %s', r.workflow, r.run_id, r.status, v.verbs)
FROM dramaturg_runs r
JOIN (SELECT run_id, array_agg(DISTINCT verb) AS verbs FROM chaos.verbs GROUP BY run_id) v ON v.run_id = r.run_id
JOIN (SELECT DISTINCT tag, status, workflow FROM chaos.orders) o ON o.tag = r.tags::jsonb ->> 'order'
WHERE r.closed_at IS NOT NULL
  AND NOT (r.status = o.status AND o.workflow <> 'chaos-endless')
  AND NOT (r.status = 'CANCELLED' AND 'cancel' = ANY (v.verbs))
  AND NOT (r.status = 'TERMINATED' AND 'terminate' = ANY (v.verbs))

-- a cancel or terminate that was answered is in the history, or came to a run that had closed
SELECT format('%s of %s, answered at %s', v.verb, v.run_id, to_timestamp(v.until))
FROM chaos.verbs v JOIN dramaturg_runs r ON r.run_id = v.run_id
WHERE v.is_answered AND (r.closed_at IS NULL OR r.closed_at > to_timestamp(v.until))
  AND NOT EXISTS (
    SELECT FROM dramaturg_events e
    WHERE e.run_id = v.run_id AND e.type IN ('run.cancel_requested', 'run.terminated', 'run.cancelled')
  )

-- every completed run has the right result
SELECT format('%s %s gave %s, not %s', r.workflow, r.run_id, left(r.result, 100), left(o.result, 100))
FROM dramaturg_runs r JOIN chaos.chains c ON c.run_id = r.run_id JOIN chaos.orders o ON o.run_id = c.first
WHERE r.status = 'COMPLETED' AND r.result::jsonb <> o.result::jsonb

-- every run that went on has one next run, and every next run one that went on
SELECT format('%s %s went on, and has %s next runs', r.workflow, r.run_id, count(n.run_id))
FROM dramaturg_runs r LEFT JOIN dramaturg_runs n ON n.continued_from = r.run_id
WHERE r.status = 'CONTINUED' GROUP BY r.run_id HAVING count(n.run_id) <> 1
UNION ALL
SELECT format('%s %s goes on from %s, which is %s', n.workflow, n.run_id, n.continued_from, coalesce(r.status, 'not there'))
FROM dramaturg_runs n LEFT JOIN dramaturg_runs r ON r.run_id = n.continued_from
WHERE n.continued_from IS NOT NULL AND r.status IS DISTINCT FROM 'CONTINUED'

-- clients were answered in the end, whatever they said
SELECT format('%s %s to run %s, %s times until %s', what, name, run_id, tries, to_timestamp(until))
FROM chaos.speech WHERE heard = 'unknown'

-- a signal that was answered is in one history of its chain; without a key at most as often as it was sent
SELECT format('%s to run %s: recorded %s times, sent %s times, with a key: %s', name, run_id, recorded, tries, is_keyed)
FROM chaos.things
WHERE what = 'signal'
  AND (recorded < is_heard::int OR recorded > CASE WHEN is_keyed THEN 1 ELSE tries END OR (is_refused AND recorded > 0))

-- an update that was answered is recorded once, with the answer that its client got, which is the right one
SELECT format('%s to run %s: recorded %s times', name, run_id, recorded)
FROM chaos.things WHERE what = 'update' AND (recorded > 1 OR is_heard AND recorded = 0)
UNION ALL
SELECT format('%s to run %s: recorded %s, told %s, right is %s', s.name, s.run_id, r.answer, s.answer, s.expected)
FROM chaos.speech s JOIN chaos.records r ON r.name = s.name AND r.run_id = s.run_id
WHERE s.what = 'update' AND s.heard = 'yes' AND (r.answer IS DISTINCT FROM s.answer::jsonb OR s.answer::jsonb <> s.expected::jsonb)

-- an update that its validator refused is in no history, and none was let through
SELECT format('%s to run %s: recorded %s times, answered: %s', name, run_id, recorded, is_heard)
FROM chaos.things WHERE what = 'refused update' AND (recorded > 0 OR is_heard)

-- a query is answered as the run was then
SELECT format('%s of run %s: %s instead of %s', given, run_id, answer, expected)
FROM chaos.speech WHERE what = 'query' AND heard = 'yes' AND expected <> 'null' AND answer::jsonb <> expected::jsonb

-- an approval has one decision, a hook one call: of whoever was told so
SELECT format('%s %s of run %s: recorded %s times, answered: %s', what, name, run_id, recorded, is_heard)
FROM chaos.things
WHERE what IN ('decision', 'call') AND (recorded > 1 OR recorded < is_heard::int OR (is_refused AND recorded > 0))
UNION ALL
SELECT format('%s position %s: %s times', recorded_in, seq, count(*))
FROM chaos.records WHERE what IN ('decision', 'call') GROUP BY recorded_in, seq HAVING count(*) > 1
UNION ALL
SELECT format('%s %s of run %s: recorded %s, said %s', s.what, s.name, s.run_id, r.answer, s.given)
FROM chaos.speech s JOIN chaos.records r ON r.name = s.name AND r.run_id = s.run_id
WHERE s.what IN ('decision', 'call') AND r.answer <> s.given::jsonb

-- every time of a schedule has one run, but for as many as it says that it missed
SELECT format('%s: %s times without a run, %s missed, %s begun twice', t.schedule_id, t.without, s.missed, t.twice)
FROM (
  SELECT schedule_id, count(*) FILTER (WHERE runs = 0) AS without, count(*) FILTER (WHERE runs > 1) AS twice
  FROM (
    SELECT t.schedule_id, t.time, count(s.run_id) AS runs FROM chaos.times t
    LEFT JOIN chaos.scheduled s ON s.schedule_id = t.schedule_id AND s.time = t.time GROUP BY t.schedule_id, t.time
  ) each_time GROUP BY schedule_id
) t LEFT JOIN dramaturg_schedules s ON s.id = t.schedule_id
WHERE t.twice > 0 OR t.without IS DISTINCT FROM s.missed

-- no run is for a time that its schedule does not have, nor begins before it
SELECT format('%s of %s: for %s, begun %s', s.run_id, s.schedule_id, s.time, s.started_at)
FROM chaos.scheduled s
WHERE s.started_at < s.time OR NOT EXISTS (SELECT FROM chaos.times t WHERE t.schedule_id = s.schedule_id AND t.time = s.time)

-- every run of a schedule completed
SELECT format('%s of %s, for %s, is %s', s.run_id, s.schedule_id, s.time, r.status)
FROM chaos.scheduled s JOIN dramaturg_runs r ON r.run_id = s.run_id
WHERE r.closed_at IS NOT NULL AND r.status <> 'COMPLETED'

-- an outcome is recorded once for a run, generation and position
SELECT format('%s generation %s position %s: %s outcomes', run_id, generation, seq, count(*))
FROM chaos.outcomes GROUP BY run_id, generation, seq HAVING count(*) > 1

-- events are numbered from 1 without gaps
SELECT format('%s: %s events, numbers %s to %s, its row says %s', r.run_id, count(e.number), min(e.number), max(e.number), r.last_event)
FROM dramaturg_runs r LEFT JOIN dramaturg_events e ON e.run_id = r.run_id
GROUP BY r.run_id, r.last_event
HAVING count(e.number) <> r.last_event OR min(e.number) <> 1 OR max(e.number) <> r.last_event

-- event times never go back within a run
SELECT format('%s: event %s is earlier than the one before', run_id, number)
FROM (SELECT run_id, number, time, lag(time) OVER (PARTITION BY run_id ORDER BY number) AS before FROM dramaturg_events) e
WHERE time < before

-- nothing but a retry or a reset follows the event that closed a run
SELECT format('%s: %s is event %s of %s', e.run_id, e.type, e.number, r.last_event)
FROM dramaturg_events e JOIN dramaturg_runs r ON r.run_id = e.run_id
WHERE e.type IN ('run.completed', 'run.failed', 'run.cancelled', 'run.terminated', 'run.timed_out', 'run.continued')
  AND NOT EXISTS (
    SELECT FROM dramaturg_events n
    WHERE n.run_id = e.run_id AND n.number = e.number + 1 AND n.type IN ('run.retried', 'run.reset')
  )
  AND e.number < r.last_event

-- timers fire once and never early
SELECT format('%s position %s: fired %s times, the first %s before it was due', s.run_id, s.seq, count(f.*), min(s.due - f.time))
FROM (SELECT run_id, data::jsonb ->> 'seq' AS seq, (data::jsonb ->> 'due')::timestamptz AS due
      FROM dramaturg_events WHERE type = 'timer.started') s
JOIN (SELECT run_id, data::jsonb ->> 'seq' AS seq, time FROM dramaturg_events WHERE type = 'timer.fired') f
  ON f.run_id = s.run_id AND f.seq = s.seq
GROUP BY s.run_id, s.seq, s.due HAVING count(*) > 1 OR min(f.time) < s.due

-- every recorded success happened
SELECT format('%s position %s, %s', o.run_id, o.seq, o.name)
FROM chaos.outcomes o
WHERE o.type = 'step.completed'
  AND NOT EXISTS (SELECT FROM chaos.ledger l WHERE l.run_id = o.run_id AND l.seq = o.seq AND l.what = 'done')

-- a position has one idempotency key, and a key one position
SELECT format('%s position %s: keys %s', run_id, seq, string_agg(DISTINCT key, ', '))
FROM chaos.ledger GROUP BY run_id, seq HAVING count(DISTINCT key) > 1
UNION ALL
SELECT format('key %s: %s positions', key, count(DISTINCT (run_id, seq)))
FROM chaos.ledger GROUP BY key HAVING count(DISTINCT (run_id, seq)) > 1

-- by its idempotency key every side effect of a completed run happened exactly once
SELECT format('%s: %s steps completed, %s distinct effects', o.run_id, o.steps, l.effects)
FROM (SELECT run_id, count(DISTINCT seq) AS steps FROM chaos.outcomes WHERE type <> 'step.cancelled' GROUP BY run_id) o
JOIN dramaturg_runs r ON r.run_id = o.run_id AND r.status = 'COMPLETED'
JOIN (SELECT run_id, count(DISTINCT key) AS effects FROM chaos.ledger GROUP BY run_id) l ON l.run_id = o.run_id
WHERE o.steps <> l.effects

-- no step began again more than a second after its success was recorded, but from a message held by a frozen or emptied place
SELECT format('%s position %s began %s s after it was recorded, process %s', o.run_id, o.seq, round((l.at - o.recorded_at)::numeric, 3), l.pid)
FROM chaos.late l JOIN chaos.outcomes o
  ON o.run_id = l.run_id AND o.seq = l.seq AND o.type = 'step.completed'
WHERE NOT l.is_explained

-- no open work belongs to a closed run
SELECT format('%s position %s, %s', w.run_id, w.seq, w.kind)
FROM dramaturg_open_work w JOIN dramaturg_runs r ON r.run_id = w.run_id WHERE r.closed_at IS NOT NULL

-- no limit counts what is over
SELECT format('%s position %s holds a slot of %s', run_id, seq, name) FROM dramaturg_slots

-- the inbox is empty
SELECT format('%s for run %s, sent at %s', kind, run_id, sent_at) FROM dramaturg_inbox

-- the entry queue is empty
SELECT format('start message %s', message_id) FROM chaos.queued

-- there are no dead letters
SELECT format('%s: %s, run %s: %s', source, reason, run_id, left(body, 200)) FROM dramaturg_dead_letters
 WHERE source NOT IN ('gave_up', 'held')

-- no run was ever blocked
SELECT format('%s: %s', run_id, left(data, 300)) FROM dramaturg_events WHERE type = 'run.blocked'
