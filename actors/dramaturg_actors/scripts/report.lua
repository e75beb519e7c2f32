-- Report on a message that goes on.
--
-- KEYS[1]  stream: reports of the partition
-- ARGV[1]  the stream's field
-- ARGV[2]  the report
--
-- The first command trims nothing: at maxmemory Redis refuses the first write of a script if it may take memory, and a
-- step must not wait there for memory that only other steps' ends will free.

redis.call('XTRIM', KEYS[1], 'MINID', '0')
redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[2])
