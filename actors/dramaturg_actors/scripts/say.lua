-- Report a heartbeat with details, and keep it for the next delivery, should this one get lost.
--
-- KEYS[1]  stream: reports of the partition
-- KEYS[2]  hash: bodies by id
-- KEYS[3]  hash: deliveries by id
-- ARGV[1]  the stream's field
-- ARGV[2]  the report
-- ARGV[3]  the id
--
-- The first command trims nothing: at maxmemory Redis refuses the first write of a script if it may take memory, and a
-- step must not wait there for memory that only other steps' ends will free.

redis.call('XTRIM', KEYS[1], 'MINID', '0')
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then
  redis.call('HSET', KEYS[3], ARGV[3] .. ':said', ARGV[2])
end
redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[2])
