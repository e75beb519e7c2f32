-- Take what cannot be read off a queue, and keep it with a note of why.
--
-- KEYS[1]  list: notes on what was put aside
-- KEYS[2]  hash: bodies by id
-- KEYS[3]  hash: deliveries by id
-- KEYS[4…] sets: ids held, of every consumer that may hold this one
-- ARGV[1]  the id
-- ARGV[2]  the note
-- ARGV[3]  how many notes to keep

for i = 4, #KEYS do
  redis.call('SREM', KEYS[i], ARGV[1])
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
