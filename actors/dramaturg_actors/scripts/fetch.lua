-- Take messages off a queue, count their deliveries, and say that their taker lives.
--
-- KEYS[1]  list: ids of the queue
-- KEYS[2]  hash: bodies by id
-- KEYS[3]  set: ids that this consumer holds
-- KEYS[4]  hash: deliveries by id
-- KEYS[5]  zset: consumers by the time of their last sign of life, in ms
-- ARGV[1]  the consumer
-- ARGV[2]  how many to take at most; 0 for the sign of life alone
--
-- Gives 1 if the consumer was known, else 0: then Redis was emptied or the consumer was silent for so long that all it
-- held was returned; then id, body and number of the delivery, in turn. An id without a body was cancelled or is done, and is dropped.
--
-- At maxmemory Redis refuses the first write of a script if it may take memory, and no later one. So that a full Redis
-- is worked off instead of being stuck, something that frees comes first.

local known = redis.call('ZREM', KEYS[5], ARGV[1])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[5], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])

local taken = {known}
local limit = tonumber(ARGV[2])
local ids = limit > 0 and redis.call('LPOP', KEYS[1], limit) or {}
for _, id in ipairs(ids) do
  local body = redis.call('HGET', KEYS[2], id)
  if body then
    redis.call('SADD', KEYS[3], id)
    taken[#taken + 1] = id
    taken[#taken + 1] = body
    taken[#taken + 1] = redis.call('HINCRBY', KEYS[4], id, 1)
  else
    redis.call('HDEL', KEYS[4], id, id .. ':begun', id .. ':said')
  end
end
return taken
