-- Count that a message begins which was delivered before.
--
-- KEYS[1]  hash: deliveries by id
-- ARGV[1]  the id
--
-- Gives how often it began again, this time included, and the last heartbeat with details that a delivery before this one
-- gave, or ''. It is counted here, before the step's code, and not at the fetch:
-- what only waited with a worker that died is no reason for its death.
--
-- The first command deletes nothing: at maxmemory Redis refuses the first write of a script if it may take memory.

redis.call('HDEL', KEYS[1], '')
local times = redis.call('HINCRBY', KEYS[1], ARGV[1] .. ':begun', 1)
return {times, redis.call('HGET', KEYS[1], ARGV[1] .. ':said') or ''}
