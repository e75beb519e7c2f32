-- Move a plain actor's message to the dead letters, where Dramatiq looks for them.
--
-- KEYS[1]  hash: bodies by id
-- KEYS[2]  hash: deliveries by id
-- KEYS[3]  zset: dead letters' ids by time, in ms
-- KEYS[4]  hash: dead letters' bodies by id
-- KEYS[5…] sets: ids held, of every consumer that may hold this one
-- ARGV[1]  the id
--
-- Gives 1 if a consumer held it, else 0, and then nothing was done.

local held = 0
for i = 5, #KEYS do
  held = held + redis.call('SREM', KEYS[i], ARGV[1])
end
if held == 0 then
  return 0
end
local body = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. ':begun', ARGV[1] .. ':said')
if body then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[3], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
  redis.call('HSET', KEYS[4], ARGV[1], body)
end
return 1
