-- Return messages that were never begun to their queue; that was no delivery.
--
-- KEYS[1]  list: ids of the queue
-- KEYS[2]  hash: bodies by id
-- KEYS[3]  hash: deliveries by id
-- KEYS[4…] sets: ids held, of every consumer that may hold one of these
-- ARGV[1]  LPUSH or RPUSH
-- ARGV[2…] ids

for i = 2, #ARGV do
  local id = ARGV[i]
  local held = 0
  for k = 4, #KEYS do
    held = held + redis.call('SREM', KEYS[k], id)
  end
  if held > 0 then
    if redis.call('HINCRBY', KEYS[3], id, -1) <= 0 then
      redis.call('HDEL', KEYS[3], id)
    end
    if redis.call('HEXISTS', KEYS[2], id) == 1 then
      redis.call(ARGV[1], KEYS[1], id)
    end
  end
end
