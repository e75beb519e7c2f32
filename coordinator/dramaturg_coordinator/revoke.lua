-- Delete messages that nobody waits for any more, and tell all workers.
--
-- KEYS[1]  stream: what workers are told
-- KEYS[2…] hashes: bodies by id, of a queue each
-- ARGV[1]  for how many ms an entry of the stream is kept
-- ARGV[2]  the stream's field
-- ARGV[3]  JSON: all ids
-- then for each message whose queue is known: which of the keys is its hash; its id
--
-- The order matters: at maxmemory Redis refuses the first write of a script if it may take memory, and no later one.

for i = 4, #ARGV, 2 do
  redis.call('HDEL', KEYS[tonumber(ARGV[i])], ARGV[i + 1])
end
local oldest = redis.call('TIME')[1] * 1000 - tonumber(ARGV[1])
redis.call('XADD', KEYS[1], 'MINID', '~', string.format('%.0f-0', oldest), '*', ARGV[2], ARGV[3])
